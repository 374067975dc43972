"""Oracles: R 4.2 (survival 3.5-3, cmprsk 2.2-11, riskRegression 2022.11.28, pec 2022.5.4) and worked cases."""

import numpy as np
import pandas as pd
import pytest

from mcti.evaluation import calibration, competing, metrics
from mcti.evaluation.comparison import point
from mcti.evaluation.competing import CompetingOutcomes
from mcti.evaluation.outcomes import Fold, Outcomes

HORIZONS = np.array([24.0, 48.0])


def cohort(count=150, seed=11):
    """Two exponential hazards that depend on x in opposite directions, uniform censoring; no two equal times."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=count)
    event = generator.exponential(50 * np.exp(-x))
    other = generator.exponential(70 * np.exp(0.5 * x))
    censored = generator.uniform(10, 120, count)
    time = np.round(np.minimum(np.minimum(event, other), censored), 3)
    status = np.where(event <= np.minimum(other, censored), 1, np.where(other <= censored, 2, 0))
    return x, time, status


def whole_cohort(time, status):
    """All patients as one test part whose training part has the same patients, so that G is that of the cohort."""
    time, status = np.asarray(time, dtype=np.float64), np.asarray(status)
    rows, event = np.arange(len(time)), status == 1
    fold = Fold(0, rows, rows, event, time, event, time)
    outcomes = Outcomes(tuple(map(str, rows)), event, time, (fold,))
    return CompetingOutcomes.of(outcomes, status == 2)


def value(statistic, outcomes):
    return point(statistic, len(outcomes.competing))


def predicted(x):
    return np.stack([1 / (1 + np.exp(-(x - 1.2 + t / 40))) for t in HORIZONS], axis=1)


def test_the_incidence_of_five_patients_equals_the_worked_out_values():
    """Event at 1, competing at 2, censored at 3, event at 4, competing at 5.

    F1: 1/5, then + 3/5 * 0 at 3, S(4-) = 4/5 * 3/4 = 3/5, + 3/5 * 1/2 at 4. F2: 4/5 * 1/4 at 2, + 3/10 at 5.
    """
    status, time = np.array([1, 2, 0, 1, 2]), np.arange(1.0, 6.0)
    event, other = competing.aalen_johansen(status == 1, status == 2, time)
    np.testing.assert_allclose(event.at(np.arange(6.0)), [0, 0.2, 0.2, 0.2, 0.5, 0.5], atol=1e-12)
    np.testing.assert_allclose(other.at(np.arange(6.0)), [0, 0, 0.2, 0.2, 0.2, 0.5], atol=1e-12)


def test_the_incidence_agrees_with_r():
    """timepoints(cmprsk::cuminc(time, status), c(12, 24, 48)), and survfit(Surv(time, factor(status, 0:2)) ~ 1)."""
    _, time, status = cohort()
    event, other = competing.aalen_johansen(status == 1, status == 2, time)
    months = np.array([12.0, 24.0, 48.0])
    np.testing.assert_allclose(event.at(months), [0.240293111871, 0.374838914220, 0.469811219313], atol=1e-11)
    np.testing.assert_allclose(other.at(months), [0.166814851001, 0.223443431639, 0.366915653535], atol=1e-11)
    step = int(np.searchsorted(event.times, 24.0, side="right")) - 1
    assert event.low[step] < event.values[step] < event.high[step]


def test_a_kind_of_event_that_does_not_occur_has_incidence_0():
    none = np.zeros(4, dtype=bool)
    event, other = competing.aalen_johansen(~none, none, np.arange(1.0, 5.0))
    assert event.at(4.0) == pytest.approx(1)
    assert not other.values.any()
    only_other = competing.aalen_johansen(none, ~none, np.arange(1.0, 5.0))
    assert (float(only_other[0].at(4.0)), float(only_other[1].at(4.0))) == (0.0, pytest.approx(1))
    assert not competing.aalen_johansen(none, none, np.arange(1.0, 5.0))[0].values.any()


def test_the_brier_score_agrees_with_risk_regression():
    """Score(list(m=F), Hist(time, status) ~ 1, cause=1, times=t, metrics="brier", cens.model="km")."""
    x, time, status = cohort()
    whole, incidence = whole_cohort(time, status), predicted(x)
    for column, score in enumerate((0.188667730787, 0.178926123301)):
        statistic = competing.brier_at(whole, incidence[:, column], HORIZONS[column])
        assert value(statistic, whole) == pytest.approx(score, abs=1e-10)
    null = competing.marginal_incidence(whole, HORIZONS)
    for column, score in enumerate((0.234334702606, 0.249088637521)):
        statistic = competing.brier_at(whole, null[:, column], HORIZONS[column])
        assert value(statistic, whole) == pytest.approx(score, abs=1e-10)


@pytest.mark.parametrize(("quantile", "tau", "expected"), [(None, 48.0, 0.748813317383), (1.0, None, 0.746712510821)])
def test_c_agrees_with_pec(quantile, tau, expected):
    """pec::cindex(list(m=F48), Hist(time, status) ~ 1, cause=1, eval.times=tau, cens.model="marginal")."""
    x, time, status = cohort()
    whole = whole_cohort(time, status)
    quantile = quantile or float(np.interp(tau, np.sort(time), np.linspace(0, 1, len(time))))
    assert value(competing.c_index(whole, predicted(x)[:, 1], quantile), whole) == pytest.approx(expected, abs=2e-6)


def test_c_of_five_patients_equals_the_worked_out_value():
    """No censoring, so each pair counts once: event at 1 and at 4, competing at 2, 3 and 5.

    The event at 1 has pairs with all four others; the event at 4 with the three competing ones, also the earlier two.
    """
    whole = whole_cohort([1, 2, 3, 4, 5], [1, 2, 2, 1, 2])
    risk = np.array([5.0, 4.0, 1.0, 3.0, 3.0])
    assert value(competing.c_index(whole, risk, 1.0), whole) == pytest.approx((4 + 0 + 1 + 0.5) / 7)
    reversed_c = value(competing.c_index(whole, -risk, 1.0), whole)
    assert reversed_c == pytest.approx(1 - (4 + 0 + 1 + 0.5) / 7)


def test_without_competing_events_the_metrics_are_those_of_survival():
    x, time, status = cohort()
    whole, incidence = whole_cohort(time, np.where(status == 2, 0, status)), predicted(x)
    assert not whole.competing.any()
    survival = whole.by_event
    assert value(competing.c_index(whole, x), whole) == pytest.approx(value(metrics.uno_c(survival, x), whole))
    curves = 1 - incidence
    pairs = [
        (competing.integrated_brier(whole, incidence, HORIZONS), metrics.integrated_brier(survival, curves, HORIZONS)),
        (competing.brier_skill(whole, incidence, HORIZONS), metrics.brier_skill(survival, curves, HORIZONS)),
        (competing.ici(whole, incidence[:, 0], 24.0), calibration.ici(survival, curves[:, 0], 24.0)),
    ]
    for ours, expected in pairs:
        assert value(ours, whole) == pytest.approx(value(expected, whole))


def test_observed_events_are_those_of_aalen_johansen():
    x, time, status = cohort()
    whole, incidence = whole_cohort(time, status), predicted(x)
    observed, _ = competing.aalen_johansen(status == 1, status == 2, time)
    for column, months in enumerate(HORIZONS):
        ratio = value(competing.observed_to_expected(whole, incidence[:, column], months), whole)
        assert ratio == pytest.approx(float(observed.at(months)) / incidence[:, column].mean())
    groups = competing.calibration_groups(whole, incidence[:, 0], 24.0, 5)
    lowest = np.argsort(incidence[:, 0])[:30]
    expected, _ = competing.aalen_johansen(status[lowest] == 1, status[lowest] == 2, time[lowest])
    assert groups["observed"][0] == pytest.approx(float(expected.at(24.0)))
    assert (np.diff(groups["predicted"]) > 0).all()
    late = competing.calibration_groups(whole, incidence[:, 0], 500.0, 5)
    assert np.isnan(late["observed"]).all()


def test_only_true_censorings_count_in_the_weights():
    """Without censoring every weight is 1; a competing event before t is a known status without the event."""
    whole = whole_cohort([1.0, 2.0, 3.0, 4.0], [1, 2, 1, 2])
    status = competing.weighted_status(whole, 2.5)
    assert status.weight.tolist() == [1, 1, 1, 1]
    assert status.had.tolist() == [1, 0, 0, 0]


def test_folds_use_the_censoring_of_their_training_part():
    x, time, status = cohort()
    patients = pd.DataFrame({"patient_id": [f"P{i}" for i in range(150)], "time_months": time, "event": status == 1})
    patients["event"] = patients["event"].astype(int)
    ids = patients["patient_id"].tolist()
    outcomes = Outcomes.from_folds(patients, {0: (ids[:100], ids[100:]), 1: (ids[50:], ids[:50])})
    whole = CompetingOutcomes.of(outcomes, status == 2)
    marginal = competing.marginal_incidence(whole, HORIZONS)
    first, _ = competing.aalen_johansen(status[:100] == 1, status[:100] == 2, time[:100])
    np.testing.assert_allclose(marginal[:50], np.tile(first.at(HORIZONS), (50, 1)))
    assert not np.allclose(marginal[0], marginal[-1])
    blocks = competing.c_index(whole, np.concatenate([x[100:], x[:50]])).blocks
    assert [len(block.second) for block in blocks] == [50, 50]
