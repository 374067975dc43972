"""Comparison of modalities on the patients who have both."""

import json

import numpy as np
import pandas as pd
import pytest
from sksurv.metrics import concordance_index_censored

from mcti.errors import DataError
from mcti.params import EvaluateParams
from mcti.steps.evaluate.step import evaluate
from mcti.steps.train import train
from tests.training.factories import bags, folders, settings

PARAMS = EvaluateParams(
    bootstrap=100,
    baselines=("kaplan_meier", "cox_clinical"),
    primary_baseline="cox_clinical",
    horizons_months=(12.0, 36.0),
    attribution_patients=0,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("a world")
    cohort, features, folds = folders(root, patients=40)
    train(cohort, features, folds, settings(workers=1, modality_dropout=0.4), root / "models")
    return root, cohort, features, folds


def test_each_regime_has_its_c_on_the_same_patients(world, tmp_path):
    """Oracle: scikit-survival, fold by fold, weighted by the comparable pairs."""
    root, cohort, features, folds = world
    evaluate(cohort, features, folds, root / "models", PARAMS, tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["mcti"]
    assert set(metrics["regimes"]) == {"both", "slides_only", "genes_only"}
    assert metrics["regimes"]["both"]["c_index"]["value"] == pytest.approx(metrics["c_index"]["value"], abs=1e-12)
    truth = {bag.patient_id: bag for bag in bags(40)}
    for regime in ("slides_only", "genes_only"):
        right = pairs = 0.0
        for fold in (0, 1):
            rows = pd.read_csv(root / "models" / f"fold_{fold}" / "regimes.csv")
            rows = rows[rows["regime"] == regime]
            events = np.array([truth[patient].event for patient in rows["patient_id"]])
            times = np.array([truth[patient].time_months for patient in rows["patient_id"]])
            _, agree, disagree, ties, _ = concordance_index_censored(events, times, rows["risk"])
            right, pairs = right + agree + ties / 2, pairs + agree + disagree + ties
        assert metrics["regimes"][regime]["c_index"]["value"] == pytest.approx(right / pairs, abs=1e-9)
        assert metrics["regimes"][regime]["patients"] == 40
    assert "slides only" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_fold_without_its_regimes_is_named(world, tmp_path):
    root, cohort, features, folds = world
    file = root / "models" / "fold_1" / "regimes.csv"
    text = file.read_bytes()
    file.unlink()
    try:
        with pytest.raises(DataError, match=r"regimes\.csv is missing in .*fold_1"):
            evaluate(cohort, features, folds, root / "models", PARAMS, tmp_path / "out")
    finally:
        file.write_bytes(text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f[f.index != f[f["regime"] == "genes_only"].index[0]], "has no prediction .*regime genes_only"),
        (lambda f: f[f["regime"] == "slides_only"], "regime 'genes_only' is missing"),
        (lambda f: f.assign(regime="blood"), "regime 'blood' is unknown"),
        (lambda f: f.assign(risk="high"), "risk is 'high'"),
        (lambda f: f.assign(S_12=0.1, S_36=0.9), "never rises"),
        (lambda f: f.drop(columns="S_36"), "column 'S_36' is missing"),
        (lambda f: f.assign(patient_id="X-" + f["patient_id"]), "patient X-.* is not a test patient"),
    ],
)
def test_a_wrong_row_of_a_regime_is_named(world, tmp_path, change, words):
    root, cohort, features, folds = world
    file = root / "models" / "fold_1" / "regimes.csv"
    text = file.read_bytes()
    change(pd.read_csv(file)).to_csv(file, index=False)
    try:
        with pytest.raises(DataError, match=words) as caught:
            evaluate(cohort, features, folds, root / "models", PARAMS, tmp_path / "out")
        assert "fold_1/regimes.csv" in str(caught.value)
    finally:
        file.write_bytes(text)
