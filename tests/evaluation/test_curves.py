"""Oracles: scikit-survival 0.28 and lifelines 0.30."""

import numpy as np
import pytest
from lifelines import KaplanMeierFitter
from sksurv.nonparametric import CensoringDistributionEstimator, kaplan_meier_estimator
from sksurv.util import Surv

from mcti.evaluation.curves import KaplanMeier, StepFunction, censoring_curve, median_follow_up
from tests.evaluation.factories import make_patients

EXACT = 1e-12  # the same products in float64


@pytest.fixture
def tied():
    patients = make_patients(80, months=1)
    return patients["event"].to_numpy() == 1, patients["time_months"].to_numpy()


def test_kaplan_meier_agrees_with_scikit_survival(tied):
    times, values = kaplan_meier_estimator(*tied)
    ours = KaplanMeier.fit(*tied)
    np.testing.assert_array_equal(ours.times, times)
    np.testing.assert_allclose(ours.values, values, atol=EXACT)


def test_interval_and_numbers_at_risk_agree_with_lifelines(tied):
    event, time = tied
    fitted = KaplanMeierFitter().fit(time, event)
    ours = KaplanMeier.fit(event, time)
    low, high = ours.band()
    oracle = fitted.confidence_interval_.loc[ours.times].to_numpy()
    inside = (ours.values > 0) & (ours.values < 1)
    np.testing.assert_allclose(np.stack([low, high], axis=1)[inside], oracle[inside], atol=1e-9)
    np.testing.assert_array_equal(ours.at_risk, fitted.event_table["at_risk"].loc[ours.times])
    assert list(ours.number_at_risk(np.array([0.0, 1e6]))) == [80, 0]


def test_censoring_curve_agrees_with_scikit_survival(tied):
    oracle = CensoringDistributionEstimator().fit(Surv.from_arrays(*tied))
    at = np.linspace(0, tied[1].max(), 50)
    np.testing.assert_allclose(censoring_curve(*tied).at(at), oracle.predict_proba(at), atol=EXACT)


def test_a_step_holds_from_its_time_on():
    steps = StepFunction(np.array([1.0, 2.0]), np.array([0.5, 0.25]))
    assert list(steps.at(np.array([0.0, 0.999, 1.0, 1.5, 2.0, 9.0]))) == [1, 1, 0.5, 0.5, 0.25, 0.25]
    assert steps.quantile(0.5) == 1.0
    assert steps.quantile(0.1) == float("inf")
    assert list(steps.before(np.array([0.0, 1.0, 1.5, 2.0, 2.001]))) == [1, 1, 0.5, 0.5, 0.25]


@pytest.mark.parametrize("count", range(2, 60, 2))
def test_the_median_allows_for_the_rounding_of_the_product(count):
    """Closed form: n patients censored at months 1..n leave exactly half at month n / 2; 24 patients: 12, not 13."""
    time = np.arange(1.0, count + 1)
    assert median_follow_up(np.zeros(count, dtype=bool), time) == count / 2
    assert KaplanMeier.fit(np.ones(count, dtype=bool), time).quantile(0.5) == count / 2


def test_a_median_follow_up_that_is_not_reached_is_infinite():
    """Events at 1, 2, 3 and one censoring, at 1.5: two of three still followed at the end of all observation."""
    assert median_follow_up(np.array([True, False, True, True]), np.array([1.0, 1.5, 2.0, 3.0])) == np.inf
    assert median_follow_up(np.ones(3, dtype=bool), np.array([1.0, 2.0, 3.0])) == np.inf
