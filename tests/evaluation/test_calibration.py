"""Calibration of predictions whose true probabilities are known."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from mcti.evaluation import calibration
from mcti.evaluation.comparison import point, resamples
from mcti.evaluation.outcomes import Outcomes
from tests.evaluation.factories import make_folds, make_patients


def _simulate(count: int = 3000) -> tuple[Outcomes, np.ndarray]:
    """The true S(36): exp(-36/60 exp(x))."""
    patients = make_patients(count)
    outcomes = Outcomes.from_folds(patients, make_folds(patients))
    return outcomes, np.exp(-0.6 * np.exp(patients["x"].to_numpy()[outcomes.patient]))


def test_true_probabilities_are_calibrated_in_every_group():
    """600 patients a group: the binomial error is at most 2 points, three of them are allowed."""
    outcomes, survival = _simulate()
    result = calibration.calibration_groups(outcomes, survival, 36.0)
    np.testing.assert_allclose(result["observed"], result["predicted"], atol=0.06)
    assert (result["low"] < result["observed"]).all()
    assert (result["observed"] < result["high"]).all()
    assert (np.diff(result["predicted"]) > 0).all()


def test_an_overestimated_risk_is_below_the_diagonal():
    outcomes, survival = _simulate()
    result = calibration.calibration_groups(outcomes, survival**3, 36.0)
    assert (result["observed"] < result["predicted"] - 0.02).all()


def _value(statistic, outcomes):
    return point(statistic, len(outcomes.patient_ids))


def test_slope_and_intercept_agree_with_scikit_learn(tied):
    """Oracle: LogisticRegression without penalty on the rows known at 36 months, with the same weights."""
    survival = 1 / (1 + np.exp(np.random.default_rng(0).normal(size=len(tied.patient))))
    known = calibration.weighted_status(tied, 36.0)
    logit = np.log((1 - survival) / survival)
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(logit[:, None], known.had, sample_weight=known.weight)
    assert _value(calibration.recalibration(tied, survival, 36.0, "slope"), tied) == pytest.approx(
        oracle.coef_[0, 0], abs=1e-5
    )


def test_true_probabilities_have_slope_one_intercept_zero_and_a_small_index():
    """3000 patients: standard errors of slope and intercept are about .05, three of them are allowed."""
    outcomes, survival = _simulate()
    assert _value(calibration.recalibration(outcomes, survival, 36.0, "slope"), outcomes) == pytest.approx(1, abs=0.15)
    assert _value(calibration.recalibration(outcomes, survival, 36.0, "intercept"), outcomes) == pytest.approx(
        0, abs=0.15
    )
    assert _value(calibration.ici(outcomes, survival, 36.0), outcomes) < 0.03
    assert _value(calibration.ici(outcomes, survival**3, 36.0), outcomes) > 0.1


def test_an_overconfident_model_has_a_slope_below_one():
    outcomes, survival = _simulate()
    logit = 2 * np.log((1 - survival) / survival)
    assert _value(
        calibration.recalibration(outcomes, 1 / (1 + np.exp(logit)), 36.0, "slope"), outcomes
    ) == pytest.approx(0.5, abs=0.1)


def test_a_resampled_slope_equals_the_slope_of_the_copied_rows(tied):
    survival = 1 / (1 + np.exp(np.random.default_rng(0).normal(size=len(tied.patient))))
    statistic = calibration.recalibration(tied, survival, 36.0, "slope")
    draws = resamples(tied.event, 3, 0)
    alone = [float(statistic(row[None])[0]) for row in draws]
    np.testing.assert_allclose(statistic(draws), alone, atol=1e-9)


def test_d_calibration_accepts_true_probabilities_and_rejects_an_overestimated_risk():
    patients = make_patients(1500)
    outcomes = Outcomes.from_folds(patients, make_folds(patients))
    horizons = np.array([12.0, 36.0, 60.0])
    truth = np.exp(-np.exp(patients["x"].to_numpy()[outcomes.patient])[:, None] * horizons / 60)
    result = calibration.d_calibration(outcomes, truth, horizons)
    assert result.p > 0.01
    np.testing.assert_allclose(result.share, 0.2, atol=0.04)
    assert result.share.sum() == pytest.approx(1)
    assert calibration.d_calibration(outcomes, truth**3, horizons).p < 1e-6


def test_d_calibration_equals_the_values_worked_out_for_two_patients():
    """Horizon 10, S(10) = .5 for both. The event at 10 has S = .5: third of five parts. The one censored there
    spreads over [0, .5]: .4 .4 .2 0 0."""
    patients = pd.DataFrame({"patient_id": ["A", "B", "C"], "event": [1, 0, 1], "time_months": [10.0, 10.0, 5.0]})
    outcomes = Outcomes.from_folds(patients, {0: (["C"], ["A", "B"])})
    result = calibration.d_calibration(outcomes, np.array([[0.5], [0.5]]), np.array([10.0]))
    np.testing.assert_allclose(result.share, np.array([0.4, 0.4, 1.2, 0, 0]) / 2, atol=1e-12)


def test_equal_predictions_have_an_intercept_and_no_slope():
    outcomes, _ = _simulate(300)
    constant = np.full(len(outcomes.patient), 0.5)
    assert np.isnan(_value(calibration.recalibration(outcomes, constant, 36.0, "slope"), outcomes))
    assert np.isfinite(_value(calibration.recalibration(outcomes, constant, 36.0, "intercept"), outcomes))


def test_a_group_not_followed_up_to_the_horizon_has_no_observed_probability():
    """Five patients of low risk leave at 10 months, five of high risk are seen up to 40: at 36 only these are known."""
    table = pd.DataFrame({"patient_id": [f"P{i}" for i in range(10)], "event": [0] * 5 + [1, 1, 0, 0, 0]})
    table["time_months"] = [10.0] * 5 + [5.0, 20.0, 40.0, 40.0, 40.0]
    more = table.assign(patient_id="T" + table["patient_id"])
    outcomes = Outcomes.from_folds(pd.concat([table, more]), {0: (list(more["patient_id"]), list(table["patient_id"]))})
    result = calibration.calibration_groups(outcomes, np.repeat([0.9, 0.2], 5), 36.0, groups=2)
    assert np.isnan(result["observed"][0])
    assert result["observed"][1] == pytest.approx(0.4)
