"""Risk groups: limits from the training part only."""

import math

import numpy as np
import pandas as pd
import pytest
from lifelines.statistics import multivariate_logrank_test

from mcti.evaluation import risk_groups
from mcti.evaluation.outcomes import Outcomes
from tests.evaluation.factories import make_folds, make_patients


def _simulate(repeats: int = 1) -> tuple[Outcomes, np.ndarray]:
    patients = make_patients(120)
    outcomes = Outcomes.from_folds(patients, make_folds(patients, 4, repeats))
    return outcomes, patients["x"].to_numpy()[outcomes.patient] + 10.0 * outcomes.fold_number


def test_groups_are_about_equal_with_folds_on_different_scales():
    outcomes, risk = _simulate()
    for count in (2, 3, 4):
        sizes = np.bincount(risk_groups.assign(outcomes, risk, count))
        assert len(sizes) == count
        assert sizes.min() > 0.6 * 120 / count


def test_the_limits_of_a_fold_do_not_depend_on_its_own_risks():
    """An extreme risk in fold 0 changes the limits of the other folds, not that of fold 0."""
    outcomes, risk = _simulate()
    first_fold = slice(0, int(outcomes.starts[1]))
    limits = []
    for scale in (1.0, 5.0):
        stretched = risk_groups.standardise_within_fold(outcomes, risk)
        stretched[first_fold] *= scale
        basis = stretched[~np.isin(outcomes.patient, outcomes.folds[0].patients)]
        limits.append(np.median(basis))
        assigned = risk_groups.assign(outcomes, risk, 2)[first_fold]
        np.testing.assert_array_equal(
            assigned, risk_groups.standardise_within_fold(outcomes, risk)[first_fold] > np.median(basis)
        )
    assert limits[0] == limits[1]


def test_the_groups_do_not_depend_on_outcomes():
    patients = make_patients(120)
    folds, risk = make_folds(patients, 4), np.random.default_rng(0).normal(size=120)
    before = risk_groups.assign(Outcomes.from_folds(patients, folds), risk, 2)
    patients["event"], patients["time_months"] = 1, np.arange(1.0, 121.0)
    np.testing.assert_array_equal(risk_groups.assign(Outcomes.from_folds(patients, folds), risk, 2), before)


def test_log_rank_agrees_with_lifelines():
    outcomes, risk = _simulate()
    groups = risk_groups.form_groups(outcomes, risk, 3)
    event, time = outcomes.event[outcomes.patient], outcomes.time_months[outcomes.patient]
    assert groups.p == pytest.approx(multivariate_logrank_test(time, groups.group, event).p_value, rel=1e-9)


def test_the_high_risk_group_has_earlier_events():
    outcomes, risk = _simulate()
    low, high = risk_groups.form_groups(outcomes, risk, 2).curves
    assert low.at(60.0) > high.at(60.0) + 0.2


def test_repeated_folds_have_curves_and_no_p():
    groups = risk_groups.form_groups(*_simulate(repeats=2), 2)
    assert math.isnan(groups.p)
    assert all(groups.curves)


def test_equal_risks_form_one_group():
    outcomes, risk = _simulate()
    groups = risk_groups.form_groups(outcomes, np.zeros(len(risk)), 2)
    assert groups.sizes() == [120, 0]
    assert math.isnan(groups.p)


def test_an_event_without_another_patient_at_risk_has_no_p():
    """The only event is at the longest time: the variance of the log-rank statistic is 0."""
    table = pd.DataFrame({"patient_id": ["a", "b", "c"], "time_months": [3.0, 1.0, 2.0], "event": [1, 0, 0]})
    outcomes = Outcomes.from_folds(table, {0: ([], ["a", "b", "c"])})
    assert math.isnan(risk_groups.log_rank(outcomes, np.array([0, 1, 1])))
