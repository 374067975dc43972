"""Scores of several models on one small cohort."""

import json

import numpy as np
import pytest

from mcti.evaluation import metrics, risk_groups, scores
from mcti.evaluation.comparison import Draws, point
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.params import EvaluateParams
from tests.evaluation.factories import make_folds, make_patients

PATIENTS = make_patients(120, months=1)
OUTCOMES = Outcomes.from_folds(PATIENTS, make_folds(PATIENTS, 3))
PARAMS = EvaluateParams(bootstrap=100, horizons_months=(36.0, 900.0), primary_baseline="cox_clinical")


def predict(noise: float) -> Predictions:
    """True risks plus noise, with S(36) and S(900)."""
    x = PATIENTS["x"].to_numpy()[OUTCOMES.patient]
    risk = x + noise * np.random.default_rng(1).normal(size=len(x))
    return Predictions(risk, np.exp(-np.array([36, 900]) / 60 * np.exp(risk)[:, None]))


@pytest.fixture(scope="module")
def scored() -> scores.Scores:
    models = {"mcti": predict(0.1), "cox_clinical": predict(2.0), "network_alone": predict(0.5)}
    groups = risk_groups.form_groups(OUTCOMES, models["mcti"].risk, 2)
    return scores.score(OUTCOMES, models, PATIENTS, groups, PARAMS)


def test_known_numbers_of_some_models_give_the_same_scores(scored):
    models = {"mcti": predict(0.1), "cox_clinical": predict(2.0), "network_alone": predict(0.5)}
    known = scores.by_model(OUTCOMES, {name: models[name] for name in ("network_alone", "mcti")}, PATIENTS, PARAMS)
    groups = risk_groups.form_groups(OUTCOMES, models["mcti"].risk, 2)
    again = scores.score(OUTCOMES, models, PATIENTS, groups, PARAMS, known)
    assert list(again.models) == list(models)
    assert json.dumps(again.metrics_json()) == json.dumps(scored.metrics_json())


def test_a_horizon_beyond_follow_up_is_not_scored(scored):
    assert scored.horizons.tolist() == [36]
    assert scored.unusable.tolist() == [900]
    assert "brier_36" in scored.models["mcti"]
    assert "brier_900" not in scored.models["mcti"]


def test_every_number_agrees_with_its_metric(scored):
    risk = predict(0.1).risk
    assert scored.c_index("mcti").value == point(metrics.c_index(OUTCOMES, risk), 120)
    assert scored.models["mcti"]["auc_36"]["value"] == point(metrics.auc_at(OUTCOMES, risk, 36.0), 120)
    assert [fold["events"] for fold in scored.models["mcti"]["folds"]] == [f.event.sum() for f in OUTCOMES.folds]


def test_a_comparison_is_the_difference_and_a_part_of_mcti_is_not_in_holms_correction(scored):
    entry = scored.comparison["cox_clinical"]
    difference = scored.c_index("mcti").value - scored.c_index("cox_clinical").value
    assert entry["difference"]["value"] == pytest.approx(difference)
    assert entry["primary"] is True
    assert entry["p_holm"] == entry["p"], "a family of one comparison"
    assert scored.comparison["network_alone"]["p_holm"] is None


def test_the_decision_curve_has_the_difference_to_the_primary_baseline(scored):
    row = scored.decision["rows"][0]
    assert scored.decision["baseline"] == "cox_clinical"
    assert row["threshold"] == 0.02
    assert row["difference"]["value"] == pytest.approx(row["mcti"] - row["baseline"])


def test_without_the_primary_baseline_the_decision_curve_has_no_difference():
    draws = Draws.sample(OUTCOMES.event, 50, 0, OUTCOMES.tested)
    at_36 = Predictions(predict(0.1).risk, predict(0.1).survival[:, :1])
    curve = scores.decision_curve(OUTCOMES, {"mcti": at_36}, np.array([36.0]), draws, PARAMS)
    assert curve["baseline"] is None
    assert curve["rows"][0]["baseline"] is None
    assert curve["rows"][0]["difference"] == {"value": None, "low": None, "high": None}


def test_metrics_json_has_the_sections_of_mcti_only_in_its_entry(scored):
    document = scored.metrics_json()
    assert set(document) == {"mcti", "cox_clinical", "network_alone"}
    assert {"comparison", "risk_groups", "subgroups", "decision"} <= set(document["mcti"])
    assert "search" not in document["mcti"], "there was no search"
    assert "comparison" not in document["cox_clinical"]
    assert scores.as_interval(document["mcti"]["c_index"]) == scored.c_index("mcti")
