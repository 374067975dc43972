"""A cohort with stage and grade from ingest to the prediction and explanation of new patients."""

import warnings

import numpy as np
import pandas as pd
import pytest

from mcti import storage
from mcti.errors import DataError, UsageError
from mcti.params import EvaluateParams, ExplainParams, IngestParams, PredictParams, SplitParams, ValidateParams
from mcti.registry.ensemble import UnseenLevelWarning
from mcti.steps.evaluate.step import evaluate
from mcti.steps.explain.step import explain
from mcti.steps.ingest import ingest
from mcti.steps.predict.step import predict
from mcti.steps.split import split
from mcti.steps.train import train
from mcti.steps.validate import validate
from tests.cohort import cases
from tests.training import factories

STAGES = ("I", "II", "III", "IV")
INGEST = {
    "name": "made",
    "expression_scale": "z-score",
    "event_confirmed": True,
    "missing_modality": "keep",
    "ordered_levels": {"stage": list(STAGES)},
    "category_values": {"stage": {"Stage IIA": "II", "Stage X": None}},
}
CELLS = {"I": "I", "II": "Stage IIA", "III": "III", "IV": "IV"}


def tables():
    """80 patients whose follow-up shortens with the stage; the grade is nominal, some stages are unknown."""
    frames = cases.sources(80)
    random = np.random.default_rng(1)
    stage = random.integers(0, 4, 80)
    frames["clinical"]["stage"] = [CELLS[STAGES[rank]] for rank in stage]
    frames["clinical"].loc[[3, 9], "stage"] = ["Stage X", ""]
    frames["clinical"]["grade"] = random.choice(["low", "high", "unclear"], 80)
    frames["clinical"]["time_months"] = np.round(100 / (1 + stage) + random.uniform(1, 9, 80), 2)
    return frames


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("staged")
    paths = cases.write_sources(tables(), root / "raw")
    ingest(paths["clinical"], paths["expression"], None, IngestParams.model_validate(INGEST), root / "cohort")
    split(root / "cohort", None, SplitParams(folds=2, inner_folds=2, min_test_events=0), root / "folds.csv")
    settings = factories.settings(architecture={"covariates": ["age", "stage", "grade"]}, epochs=2, workers=1)
    train(root / "cohort", None, root / "folds.csv", settings, root / "models")
    return root


def new_folder(path, stages):
    frames = tables()
    path.mkdir()
    clinical = frames["clinical"][["patient_id", "age", "grade"]].head(len(stages)).assign(stage=stages)
    for name, frame in (("clinical", clinical), ("expression", frames["expression"].head(len(stages)))):
        frame.assign(patient_id="N-" + frame["patient_id"]).to_csv(path / f"{name}.csv", index=False)
    return path


def predicted(world, folder, out):
    cells = INGEST["category_values"]
    predict(str(world / "models"), None, None, PredictParams(), out, new_patients=folder, category_values=cells)
    return pd.read_csv(out).set_index("patient_id")["risk"]


def test_the_cohort_has_levels_and_their_order(world):
    patients = pd.read_parquet(world / "cohort" / "patients.parquet").set_index("patient_id")
    assert set(patients["stage"].dropna()) == set(STAGES)
    assert patients["stage"].isna().sum() == 2
    assert storage.read_json(world / "cohort" / "cohort.json")["ordered_levels"] == {"stage": list(STAGES)}


def test_the_contract_holds_and_warns_of_no_rare_level(world, tmp_path):
    limits = ValidateParams(min_events=5, experiment=None)
    assert not {"levels_of_ordered", "levels_frequent"} & set(validate(world / "cohort", limits, tmp_path / "v").failed)


def test_each_fold_has_its_levels_and_the_evaluation_reads_the_order(world, tmp_path):
    record = storage.read_json(world / "models" / "fold_0" / "model.json")
    stage, grade = record["config"]["categories"]
    assert stage == {"name": "stage", "levels": list(STAGES), "ordered": True}
    assert grade == {"name": "grade", "levels": ["high", "low", "unclear"], "ordered": False}
    names = ("kaplan_meier", "cox_clinical")
    settings = EvaluateParams(bootstrap=100, baselines=names, primary_baseline="cox_clinical", attribution_patients=2)
    evaluate(world / "cohort", None, world / "folds.csv", world / "models", settings, tmp_path / "e")
    metrics = storage.read_json(tmp_path / "e" / "metrics.json")
    assert metrics["cox_clinical"]["c_index"]["value"] > 0.7  # the stage decides the follow-up


def test_new_patients_have_the_cells_of_their_table_replaced(world, tmp_path):
    one = predicted(world, new_folder(tmp_path / "a", ["Stage IIA", "Stage X", "IV"]), tmp_path / "a.csv")
    other = predicted(world, new_folder(tmp_path / "b", ["II", "", "IV"]), tmp_path / "b.csv")
    assert one.to_dict() == other.to_dict()
    third = predicted(world, new_folder(tmp_path / "c", ["III", "", "IV"]), tmp_path / "c.csv")
    assert third.iloc[0] != one.iloc[0]
    assert third.iloc[1:].to_dict() == one.iloc[1:].to_dict()


def test_an_unseen_level_is_explained_as_a_missing_one_with_a_warning(world, tmp_path):
    def explained(stage, name):
        folder, params = new_folder(tmp_path / name, [stage]), ExplainParams(steps=8)
        explain(str(world / "models"), None, None, params, tmp_path / f"{name}-out", new_patients=folder)
        return (tmp_path / f"{name}-out" / "contributions.csv").read_text()

    with pytest.warns(UnseenLevelWarning, match="stage 'V' did not occur in training"):
        unseen = explained("V", "a")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnseenLevelWarning)
        assert explained("", "b") == unseen


def test_a_stage_outside_the_order_and_a_setting_without_a_column_end_the_ingest(tmp_path):
    frames = tables()
    paths = cases.write_sources(frames, tmp_path / "raw")

    def read(**changes):
        params = IngestParams.model_validate(INGEST | changes)
        ingest(paths["clinical"], paths["expression"], None, params, tmp_path / "cohort")

    with pytest.raises(DataError, match=r"stage is 'Stage X', not one of I, II, III, IV .*P-0003, column stage"):
        read(category_values={"stage": {"Stage IIA": "II"}})
    with pytest.raises(UsageError, match=r"'stages' is no covariate of the clinical table in ingest.ordered_levels"):
        read(ordered_levels={"stages": ["I", "II"]}, category_values={})
    assert not (tmp_path / "cohort").exists()
