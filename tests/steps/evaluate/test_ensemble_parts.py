"""Network alone and Cox part alone of trained models, and the shares of the attribution."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from sksurv.metrics import concordance_index_censored

from mcti.params import EvaluateParams
from mcti.steps.evaluate.step import evaluate
from mcti.steps.train import train
from tests.training import factories

ASKED = EvaluateParams(
    bootstrap=100, baselines=("cox_clinical_genes", "linear_all"), attribution_patients=7, horizons_months=(12.0, 36.0)
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The ensemble, the network of the same seed alone and the Cox model alone, trained on the same folds."""
    root = tmp_path_factory.mktemp("parts")
    cohort, features, folds = factories.folders(root, patients=40)
    for name, share in {"models": 0.5, "network": 0.0, "cox": 1.0}.items():
        train(cohort, features, folds, factories.settings(workers=1, cox_weight=share), root / name)
    evaluate(cohort, features, folds, root / "models", ASKED, root / "out")
    return root


def of_folder(folder) -> pd.DataFrame:
    rows = pd.concat([pd.read_csv(file) for file in sorted(folder.glob("fold_*/predictions.csv"))])
    return rows.sort_values(["patient_id", "fold"], ignore_index=True)


def of_part(project, name: str) -> pd.DataFrame:
    rows = pd.read_csv(project / "out" / "baselines.csv")
    return rows[rows["model"] == name].sort_values(["patient_id", "fold"], ignore_index=True)


@pytest.mark.parametrize(("part", "folder"), [("network_alone", "network"), ("cox_part", "cox")])
def test_each_part_predicts_as_a_model_trained_without_the_other(project, part, folder):
    """Oracle: the same training with cox_weight 0, and with 1. The Cox model is fitted after the network, so that
    the network's weights do not depend on it."""
    ours, theirs = of_part(project, part), of_folder(project / folder)
    assert list(ours["patient_id"]) == list(theirs["patient_id"])
    for column in ("risk", "S_12", "S_36"):
        np.testing.assert_allclose(ours[column], theirs[column], atol=1e-6)  # float32 weights and sums
    assert not np.allclose(ours["risk"], of_folder(project / "models")["risk"], atol=1e-3)


def test_the_parts_have_the_c_of_their_predictions_and_are_not_comparators(project):
    result = json.loads((project / "out" / "metrics.json").read_text())
    outcome = pd.read_csv(project / "out" / "predictions.csv")[["patient_id", "fold", "time_months", "event"]]
    for part in ("network_alone", "cox_part"):
        right = pairs = 0.0
        for _, rows in of_part(project, part).merge(outcome, on=["patient_id", "fold"]).groupby("fold"):
            c = concordance_index_censored(rows["event"] == 1, rows["time_months"], rows["risk"])
            right, pairs = right + c[1] + c[3] / 2, pairs + sum(c[1:4])
        assert result[part]["c_index"]["value"] == pytest.approx(right / pairs, abs=1e-12)
        assert result["mcti"]["comparison"][part]["p_holm"] is None
    family = {n: v["p"] for n, v in result["mcti"]["comparison"].items() if n in ASKED.baselines}
    smallest = min(family.values())
    name = min(family, key=family.get)
    assert result["mcti"]["comparison"][name]["p_holm"] == pytest.approx(min(1, 2 * smallest))


def test_the_report_has_both_rows_and_the_shares(project):
    page = (project / "out" / "report.html").read_text(encoding="utf-8")
    for text in ("MCTI: network alone", "MCTI: Cox part alone", "Shares of the attribution (7 test patients)"):
        assert text in page
    attribution = json.loads((project / "out" / "metrics.json").read_text())["mcti"]["attribution"]
    assert attribution["patients"] == 7
    assert sum(attribution["shares"].values()) == pytest.approx(1)
    assert sum(attribution["details"].values()) == pytest.approx(attribution["shares"]["network_slides"])
    assert attribution["shares"]["cox"] > 0
    small = attribution["details"]["critical_patches"] < 0.01
    assert ("Share of the critical patches" in page) is small, "a sentence"
    assert ("Critical patches of the best- and the worst-predicted" in page) is not small, "and no section"


def test_paired_differences_of_the_brier_score_equal_the_differences_of_the_scores(project):
    result = json.loads((project / "out" / "metrics.json").read_text())
    for name, entry in result["mcti"]["comparison"].items():
        gap = result["mcti"]["ibs"]["value"] - result[name]["ibs"]["value"]
        assert entry["ibs_difference"]["value"] == pytest.approx(gap, abs=1e-12)
        assert entry["ibs_difference"]["low"] <= gap <= entry["ibs_difference"]["high"]


def test_a_network_without_a_cox_model_has_no_parts(project, tmp_path):
    cohort, features, folds = project / "cohort", project / "features", project / "folds.csv"
    quick = ASKED.model_copy(update={"attribution_patients": 0, "baselines": ("cox_clinical_genes",)})
    evaluate(cohort, features, folds, project / "network", quick, tmp_path / "out")
    result = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(result) == {"mcti", "cox_clinical_genes"}
    assert "attribution" not in result["mcti"]
    assert "network alone" not in (tmp_path / "out" / "report.html").read_text()


def test_every_key_of_metrics_json_is_a_valid_mlflow_name(project):
    """MLflow 3: letters, digits and `_ - . / :` and blanks; a comma makes the registration fail."""
    from mcti.registry import headline_metrics

    result = headline_metrics.select(json.loads((project / "out" / "metrics.json").read_text()), None)
    assert "mcti.c_index.value" in result
    assert [name for name in result if not re.fullmatch(r"[\w\-./: ]+", name)] == []
