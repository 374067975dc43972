"""Recalibration on a part of an external cohort: the fit, its evidence on the other part, and the refusals."""

import json

import pandas as pd
import pytest

from mcti.errors import DataError
from mcti.params import EvaluateParams, PredictParams
from mcti.redaction import hashed
from mcti.registry import ensemble_files, recalibrated_ensemble
from mcti.steps.predict.step import predict
from mcti.steps.test import recalibration
from mcti.steps.test.step import test as step
from tests.steps.test.factories import develop, read, shortened, varied
from tests.training.factories import folders, settings

PARAMS = EvaluateParams(
    bootstrap=100,
    horizons_months=(12.0, 36.0),
    baselines=("kaplan_meier", "cox_clinical"),
    primary_baseline="cox_clinical",
    attribution_patients=0,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A model, and its recalibration on another cohort in which all times are a third as long."""
    root = tmp_path_factory.mktemp("a world")
    chosen = settings(epochs=4, workers=1, cox_weight=0.5)
    develop(root, PARAMS, chosen, 70, lambda cohort: varied(cohort, 0, ""))
    other, _, _ = folders(root / "other", patients=100, seed=1)
    varied(other, 1, "N-")
    shortened(other)
    recalibrate(root, root / "out")
    return root


def recalibrate(root, out, models="models", share=0.5):
    other = root / "other"
    return step(
        str(root / models), other / "cohort", other / "features", PARAMS, out,
        evaluation=root / "evaluation", recalibration_share=share,
    )  # fmt: skip


def result_of(root):
    return json.loads((root / "out" / "result.json").read_text())["recalibrated"]


def record_of(root):
    return recalibrated_ensemble.read(root / "out" / "recalibrated" / "model")


def test_no_patient_of_the_fit_is_in_the_evidence(world):
    predicted = pd.read_csv(world / "out" / "recalibrated" / "validation" / "predictions.csv")
    evidence, fit = {hashed(name) for name in predicted["patient_id"]}, set(record_of(world).patients)
    assert not evidence & fit
    assert evidence | fit == {hashed(name) for name in read(world / "other" / "cohort").patients["patient_id"]}
    assert result_of(world)["fit_patients"] == len(fit)
    assert result_of(world)["patients"] == len(evidence)


def test_the_evidence_is_what_the_recalibrated_model_predicts(world, tmp_path):
    model, other = world / "out" / "recalibrated" / "model", world / "other"
    predict(str(model), other / "cohort", other / "features", PredictParams(workers=1), tmp_path / "p.csv")
    usual = pd.read_csv(tmp_path / "p.csv", index_col="patient_id", float_precision="round_trip")
    path = world / "out" / "recalibrated" / "validation" / "predictions.csv"
    evidence = pd.read_csv(path, index_col="patient_id", float_precision="round_trip")
    before = pd.read_csv(world / "out" / "predictions.csv", index_col="patient_id", float_precision="round_trip")
    assert list(evidence["S_12"]) == list(usual.loc[evidence.index, "S_12"])
    assert list(evidence["risk"]) == list(before.loc[evidence.index, "risk"])
    assert list(evidence["risk_group"]) == list(before.loc[evidence.index, "risk_group"])
    # Three times the hazard. The slope is above 1: the curves of patients at low risk fall less, a few of them rise.
    assert (evidence["S_12"] < before.loc[evidence.index, "S_12"]).mean() > 0.9
    assert evidence["S_12"].mean() < before.loc[evidence.index, "S_12"].mean() - 0.1


def test_the_curves_of_the_other_part_are_better(world):
    """Three times the hazard: more events than expected before, as many as expected after; the ranking is the same."""
    result = result_of(world)
    assert result["intercept"] > 0
    assert result["ibs_difference"]["high"] < 0
    metrics = json.loads((world / "out" / "recalibrated" / "validation" / "metrics.json").read_text())
    after, before = metrics["mcti"]["oe_12"], metrics["not_recalibrated"]["oe_12"]
    assert after["low"] < 1 < after["high"]
    assert before["low"] > 1
    assert metrics["mcti"]["c_index"] == metrics["not_recalibrated"]["c_index"]


def test_the_report_of_the_recalibrated_model_names_the_fit(world):
    page = (world / "out" / "recalibrated" / "validation" / "report.html").read_text(encoding="utf-8")
    assert "other patients of this cohort" in page
    assert "MCTI: before recalibration" in page
    assert "The model was used as it is" not in page
    assert "the survival curves were recalibrated" in page
    assert "The model was used as it is" in (world / "out" / "report.html").read_text(encoding="utf-8")


def test_the_recalibrated_model_is_not_tested_on_the_patients_of_its_fit(world, tmp_path):
    (world / "recalibrated").symlink_to(world / "out" / "recalibrated" / "model")
    count = len(record_of(world).patients)
    with pytest.raises(DataError, match=f"{count} of 100 patients belong to the recalibration of the model"):
        recalibrate(world, tmp_path / "out", models="recalibrated")
    assert not (tmp_path / "out").exists()


def test_the_record_is_part_of_the_digest(world):
    folder = world / "out" / "recalibrated" / "model"
    parent = ensemble_files.load(world / "models").digest
    loaded = ensemble_files.load(folder)
    assert record_of(world).parent == parent != loaded.digest
    assert loaded.digest == result_of(world)["digest"]
    assert all(member.fitted.recalibration is not None for member in loaded.members.values())


@pytest.mark.slow
def test_the_same_bytes_on_every_run(world, tmp_path):
    recalibrate(world, tmp_path / "again")
    for path in (p for p in (world / "out").rglob("*") if p.is_file()):
        assert (tmp_path / "again" / path.relative_to(world / "out")).read_bytes() == path.read_bytes(), path


def test_too_small_a_number_of_events_is_refused_before_the_predictions(world, tmp_path, monkeypatch):
    monkeypatch.setattr("mcti.steps.test.prediction.predict", None)
    with pytest.raises(DataError, match=r"events for the recalibration, fewer than 20 in the cohort"):
        recalibrate(world, tmp_path / "out", share=0.05)
    with pytest.raises(DataError, match=r"events for its evidence, fewer than 20 in the cohort"):
        recalibrate(world, tmp_path / "out", share=0.95)
    assert not (tmp_path / "out").exists()


def test_the_parts_depend_on_ids_and_events_alone():
    table = pd.DataFrame({"patient_id": [f"P{i}" for i in range(100)], "event": [1, 0] * 50})
    parts = recalibration.assign_parts(table, 0.4)
    again = recalibration.assign_parts(table.sample(frac=1, random_state=0), 0.4)
    assert set(parts.fit) == set(again.fit)
    chosen = table[table["patient_id"].isin(parts.fit)]
    assert (len(chosen), int(chosen["event"].sum())) == (40, 20)
