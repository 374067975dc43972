"""Performance on later outcomes: delay, censoring, false alarms of an unchanged model, alarms of a failing one."""

import numpy as np
import pytest
from scipy import stats
from sksurv.metrics import concordance_index_ipcw

from mcti.evaluation import decay, metrics
from mcti.evaluation.comparison import Interval
from mcti.params import MonitorParams

PARAMS = MonitorParams(bootstrap=100, c_margin=0.0, calibration_margin=0.0, min_events=10)


def patients(random, count=120, beta=1.0):
    """Exponential times with log hazard beta * x; S(t) is known, so the predictions are calibrated."""
    x = random.normal(size=count)
    rate = np.exp(beta * x) / 60
    death, censored = random.exponential(1 / rate), random.uniform(6, 100, count)
    survival = {months: np.exp(-rate * months) for months in (12.0, 36.0)}
    return death <= censored, np.minimum(death, censored), x, survival


def test_follow_up_is_cut_for_all_patients_at_the_delay_before_the_last_contact():
    """Last contact in month 30 (10 + 20), cut at 24. The event of the second, at 26, is not known there."""
    event, time = np.array([True, True, False, False]), np.array([5.0, 6.0, 20.0, 2.0])
    entry = np.array([0.0, 20.0, 10.0, 28.0])
    kept, event, time = decay.mature_follow_up(event, time, entry, delay_months=6.0)
    assert kept.tolist() == [True, True, True, False]
    assert event.tolist() == [True, False, False]
    assert time.tolist() == [5.0, 4.0, 14.0]


def test_without_entry_months_nothing_is_cut():
    event, time = np.array([True, False]), np.array([3.0, 4.0])
    kept, same, months = decay.mature_follow_up(event, time, None, 0.0)
    assert kept.all()
    assert same.tolist() == event.tolist()
    assert months.tolist() == time.tolist()


def test_unos_c_agrees_with_scikit_survival():
    """Oracle: sksurv.metrics.concordance_index_ipcw with the same tau, censoring from the same patients."""
    event, time, x, survival = patients(np.random.default_rng(0))
    result = decay.assess(event, time, x, survival, None, PARAMS)
    outcome = np.array(list(zip(event, time, strict=True)), dtype=[("e", bool), ("t", float)])
    theirs = concordance_index_ipcw(outcome, outcome, x, tau=float(np.quantile(time, metrics.UNO_TAU_QUANTILE)))[0]
    assert result.uno_c.value == pytest.approx(theirs, abs=1e-9)
    assert result.loss is None
    assert result.not_assessed_reason == ""


def test_an_unchanged_model_has_a_false_alarm_in_at_most_five_percent_of_runs():
    """Margins 0, 100 runs; the registered C is drawn with its own error. The limit is the 99th percentile of 5 %."""
    random, alarms = np.random.default_rng(1), 0
    truth, error = 0.742, 0.02  # C of 20,000 such patients, checked below
    event, time, x, survival = patients(random, count=4000)
    assert decay.assess(event, time, x, survival, None, PARAMS).uno_c.value == pytest.approx(truth, abs=0.03)
    for _ in range(100):
        value = truth + error * random.normal()
        registered = Interval(value, value - 1.96 * error, value + 1.96 * error)
        alarms += bool(decay.assess(*patients(random), registered, PARAMS).alarms)
    assert alarms <= stats.binom.ppf(0.99, 100, 0.05)


def test_uninformative_risks_and_overestimated_survival_both_raise_an_alarm():
    random = np.random.default_rng(2)
    event, time, x, survival = patients(random, count=200)
    registered = Interval(0.74, 0.70, 0.78)
    flat = decay.assess(event, time, random.permutation(x), survival, registered, PARAMS)
    assert flat.loss.low > 0.05
    assert "Uno's C fell" in flat.alarms[0]
    rosy = decay.assess(event, time, x, {m: s**0.2 for m, s in survival.items()}, registered, PARAMS)
    assert rosy.gap.low > 0.1
    assert len(rosy.alarms) == 1
    assert "event probability at 36 months" in rosy.alarms[0]


def test_below_ten_events_nothing_is_assessed_and_c_is_reported_from_five_events_on():
    event, time, x, survival = patients(np.random.default_rng(3), count=40)
    for events in (0, 4, 5, 9):
        shown = event & (np.cumsum(event) <= events)
        result = decay.assess(shown, time, x, survival, Interval(0.99, 0.98, 1.0), PARAMS)
        assert result.not_assessed_reason == f"{events} events of new patients; 10 are needed"
        assert result.alarms == ()
        assert (result.uno_c is not None) == (events >= 5)
    outcome = np.array(list(zip(shown, time, strict=True)), dtype=[("e", bool), ("t", float)])
    theirs = concordance_index_ipcw(outcome, outcome, x, tau=float(np.quantile(time, metrics.UNO_TAU_QUANTILE)))[0]
    assert result.uno_c.value == pytest.approx(theirs, abs=1e-9)
    assert result.uno_c.low < result.uno_c.value < result.uno_c.high


def test_without_a_reference_the_performance_is_not_assessed():
    event, time, x, survival = patients(np.random.default_rng(4))
    result = decay.assess(event, time, x, {1000.0: survival[36.0]}, None, PARAMS)
    assert result.not_assessed_reason.startswith("neither a registered Uno's C")
