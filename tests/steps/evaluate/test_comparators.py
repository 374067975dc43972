"""Comparators in the evaluation: from `mcti train` of each model to `mcti evaluate` of all."""

import contextlib
import json
import shutil

import pandas as pd
import pytest

from mcti.cli import command_context
from mcti.cli.app import app
from mcti.errors import DataError, UsageError
from mcti.params import EvaluateParams, SplitParams
from mcti.steps.evaluate.step import evaluate
from mcti.steps.split import split
from mcti.steps.train import train
from tests.training import factories

PARAMS = EvaluateParams(
    bootstrap=100, baselines=("cox_clinical_genes",), horizons_months=(12.0,), attribution_patients=0
)
COMPARATORS = ("abmil", "mcat")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """MCTI and two comparators trained on the same folds; `elsewhere` on other folds of the same patients."""
    root = tmp_path_factory.mktemp("comparators")
    cohort, features, folds = factories.folders(root, patients=40)
    for preset, name in (("tiny", "folds"), *((comparator, comparator) for comparator in COMPARATORS)):
        train(cohort, features, folds, factories.settings(workers=1, epochs=1, preset=preset), root / "models" / name)
    again = SplitParams(folds=2, inner_folds=2, min_test_events=0, seed=8)
    split(cohort, None, again, root / "other.csv")
    train(
        cohort, features, root / "other.csv", factories.settings(workers=1, epochs=1, preset="snn"), root / "elsewhere"
    )
    return root


def run(root, *comparators, models="models/folds", params=PARAMS):
    folders = [root / comparator for comparator in comparators]
    out = root / "out"
    return evaluate(
        root / "cohort", root / "features", root / "folds.csv", root / models, params, out, comparators=folders
    )


@pytest.fixture(scope="module")
def evaluated(project):
    """The output of the command for the ensemble and both comparators."""
    words = ["evaluate", "--cohort", "cohort", "--features", "features", "--folds", "folds.csv", "--models"]
    words += ["models/folds", "--out", "two words", "--set", "evaluate.bootstrap=100"]
    words += ["--set", "evaluate.baselines=[cox_clinical_genes]", "--set", "evaluate.attribution_patients=0"]
    words += ["--set", "evaluate.horizons_months=[12.0]"]
    for comparator in COMPARATORS:
        words += ["--comparator", f"models/{comparator}"]
    with contextlib.chdir(project):
        assert command_context.run_app(app, words) == 0
    return project / "two words"


def test_the_command_line_puts_every_model_into_one_table(evaluated):
    metrics = json.loads((evaluated / "metrics.json").read_text())
    others = {"abmil", "mcat", "cox_clinical_genes", "network_alone", "cox_part"}
    assert set(metrics) == {"mcti"} | others
    assert set(metrics["mcti"]["comparison"]) == others
    gap = metrics["mcti"]["c_index"]["value"] - metrics["abmil"]["c_index"]["value"]
    assert metrics["mcti"]["comparison"]["abmil"]["difference"]["value"] == pytest.approx(gap, abs=1e-12)
    assert ">abmil<" in (evaluated / "report.html").read_text()


def test_a_comparator_has_the_predictions_of_its_folder(project, evaluated):
    """The risks of models/mcat, and its C when it is evaluated as the main model."""
    rows = pd.read_csv(evaluated / "baselines.csv")
    rows = rows[rows["model"] == "mcat"].set_index("patient_id")["risk"]
    parts = [pd.read_csv(file) for file in (project / "models" / "mcat").glob("fold_*/predictions.csv")]
    pd.testing.assert_series_equal(rows, pd.concat(parts).set_index("patient_id")["risk"].sort_index())
    single = json.loads((evaluated / "metrics.json").read_text())["mcat"]["c_index"]
    run(project, models="models/mcat")
    assert json.loads((project / "out" / "metrics.json").read_text())["mcti"]["c_index"] == single


def test_two_models_of_one_name_are_refused(project):
    shutil.copytree(project / "models" / "abmil", project / "again" / "abmil", dirs_exist_ok=True)
    with pytest.raises(UsageError, match="two models have the name 'abmil'"):
        run(project, "models/abmil", "again/abmil")
    shutil.copytree(project / "models" / "abmil", project / "cox_clinical_genes", dirs_exist_ok=True)
    with pytest.raises(UsageError, match="have the name 'cox_clinical_genes'"):
        run(project, "cox_clinical_genes")


def test_a_model_of_other_folds_is_refused_even_with_matching_predictions(project):
    """Its predictions.csv fits these folds; the training patients in model.json show the difference."""
    for fold in (0, 1):
        mine, theirs = (project / name / f"fold_{fold}" / "predictions.csv" for name in ("models/folds", "elsewhere"))
        shutil.copyfile(mine, theirs)
    with pytest.raises(DataError, match=r"trained on \d+ of the 20 patients that it is tested on.*elsewhere/fold_0"):
        run(project, "elsewhere")
    with pytest.raises(DataError, match="that it is tested on"):
        run(project, models="elsewhere")


def test_a_model_trained_without_some_training_patients_is_refused(project, tmp_path):
    shutil.copytree(project / "models" / "abmil", tmp_path / "abmil")
    file = tmp_path / "abmil" / "fold_1" / "model.json"
    spec = json.loads(file.read_text())
    file.write_text(json.dumps(spec | {"patients": spec["patients"][2:]}))
    with pytest.raises(DataError, match="differ from those of the fold: 0 more, 2 missing"):
        run(project, str(tmp_path / "abmil"))


def test_folds_of_different_models_are_refused(project, tmp_path):
    """For example after a single fold was trained with other settings, or after a failed run."""
    shutil.copytree(project / "models" / "abmil", tmp_path / "abmil")
    file = tmp_path / "abmil" / "fold_1" / "model.json"
    spec = json.loads(file.read_text())
    file.write_text(json.dumps(spec | {"params": spec["params"] | {"epochs": 99}}))
    words = r"the folds belong to different models: train\.epochs is 99 instead of \d+ in .*fold_1"
    with pytest.raises(DataError, match=words):
        run(project, str(tmp_path / "abmil"))
    with pytest.raises(DataError, match=words):
        run(project, models=str(tmp_path / "abmil"))
