import lifelines
import numpy as np
import pytest
from lifelines.utils import survival_table_from_events
from sksurv.nonparametric import kaplan_meier_estimator

from mcti.contracts import followup


def cohort(seed, patients=200, ties=True):
    rng = np.random.default_rng(seed)
    time = rng.exponential(40, patients) + 0.1
    return (time.round(0) + 1 if ties else time), rng.random(patients) < 0.4


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [True, False])
def test_reverse_kaplan_meier_agrees_with_lifelines_and_scikit_survival(seed, ties):
    """Oracles: lifelines 0.30 and scikit-survival 0.28; all three multiply the same ratios in float64."""
    time, event = cohort(seed, ties=ties)
    months, share = followup.reverse_kaplan_meier(time, event)
    theirs = lifelines.KaplanMeierFitter().fit(time, ~event).survival_function_at_times(months).to_numpy()
    np.testing.assert_allclose(share, theirs, rtol=0, atol=1e-9)
    x, y = kaplan_meier_estimator(~event, time)
    np.testing.assert_allclose(months, x, rtol=0)
    np.testing.assert_allclose(share, y, rtol=0, atol=1e-9)
    fitted = lifelines.KaplanMeierFitter().fit(time, ~event)
    assert followup.median_followup(time, event) == pytest.approx(fitted.median_survival_time_, abs=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_event_table_agrees_with_lifelines(seed):
    """Oracle: lifelines 0.30, survival_table_from_events; its first row is time 0, at which all patients enter."""
    time, event = cohort(seed)
    ours = followup.event_table(time, event)
    theirs = survival_table_from_events(time, event).iloc[1:]
    np.testing.assert_allclose(ours.months, theirs.index.to_numpy(), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(ours.at_risk, theirs["at_risk"])
    np.testing.assert_array_equal(ours.events, theirs["observed"])
    np.testing.assert_array_equal(ours.censored, theirs["censored"])


def test_reverse_kaplan_meier_agrees_with_a_manual_calculation():
    """Four patients: an event at 1, censorings at 2 and 3, an event at 4. The first censoring leaves 2 of 3."""
    months, share = followup.reverse_kaplan_meier(np.array([1.0, 2, 3, 4]), np.array([True, False, False, True]))
    np.testing.assert_allclose(months, [1, 2, 3, 4])
    np.testing.assert_allclose(share, [1, 2 / 3, 1 / 3, 1 / 3], rtol=1e-12)
    assert followup.median_followup(np.array([1.0, 2, 3, 4]), np.array([True, False, False, True])) == 3


def test_the_median_is_not_affected_by_rounding():
    """24 patients censored at months 1..24: half are followed beyond month 12."""
    assert followup.median_followup(np.arange(1.0, 25), np.zeros(24, dtype=bool)) == 12


def test_a_median_that_is_not_reached_is_nan():
    assert np.isnan(followup.median_followup(np.array([5.0, 9.0]), np.array([True, True])))


def test_lateness_is_mirrored_when_the_flags_are_inverted():
    time, event = cohort(0)
    forward, inverted = followup.lateness(time, event)[0], followup.lateness(time, ~event)[0]
    assert forward + inverted == pytest.approx(1, abs=1e-12)
    assert np.isnan(followup.lateness(time, np.ones(len(time), bool))[0])
