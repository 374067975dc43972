"""Oracles: scikit-learn's roc_curve (1.9) and scikit-survival's cumulative_dynamic_auc (0.28)."""

import numpy as np
import pytest
from sklearn.metrics import auc, roc_curve
from sksurv.metrics import cumulative_dynamic_auc
from sksurv.util import Surv

from mcti.evaluation import roc
from mcti.evaluation.outcomes import Outcomes
from tests.evaluation.factories import make_folds, make_patients


def outcomes(folds: int) -> tuple[Outcomes, np.ndarray]:
    """Test rows and risks rounded to a tenth, so that many are tied."""
    patients = make_patients(150, seed=5)
    tested = Outcomes.from_folds(patients, dict(list(make_folds(patients, 3).items())[:folds]))
    return tested, np.round(np.random.default_rng(3).normal(size=len(tested.patient)), 1)


def test_with_one_fold_the_area_is_the_auc_of_scikit_survival():
    tested, risk = outcomes(1)
    (fold,) = tested.folds
    trained, test = Surv.from_arrays(fold.train_event, fold.train_time), Surv.from_arrays(fold.event, fold.time_months)
    theirs, _ = cumulative_dynamic_auc(trained, test, risk, [36.0])
    false, true, threshold = roc.curve_at(tested, risk, 36.0)
    assert auc(false, true) == pytest.approx(theirs[0], abs=1e-12)  # the same sums in another order, in float64
    assert (false[0], true[0], threshold[0]) == (0, 0, 0)
    assert (false[-1], true[-1], threshold[-1]) == (1, 1, 1)
    assert np.all(np.diff(threshold) > 0)


def test_without_censoring_it_is_the_curve_of_scikit_learn():
    patients = make_patients(80, seed=1).assign(event=1)
    tested = Outcomes.from_folds(patients, dict(list(make_folds(patients, 2).items())[:1]))
    risk = np.round(np.random.default_rng(0).normal(size=len(tested.patient)), 1)
    false, true, _ = roc.curve_at(tested, risk, 30.0)
    theirs = roc_curve(tested.folds[0].time_months <= 30.0, risk, drop_intermediate=False)
    np.testing.assert_allclose(false, theirs[0], atol=1e-12)
    np.testing.assert_allclose(true, theirs[1], atol=1e-12)


def test_the_scale_of_a_fold_does_not_change_the_curve():
    tested, risk = outcomes(3)
    moved = risk * np.array([1.0, 100.0, 0.01])[tested.fold_number] + np.array([0, 7, -3])[tested.fold_number]
    for ours, theirs in zip(roc.curve_at(tested, risk, 36.0), roc.curve_at(tested, moved, 36.0), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_without_a_case_or_a_control_there_is_no_curve():
    tested, risk = outcomes(2)
    for months in (0.0, 1e6):
        assert [len(part) for part in roc.curve_at(tested, risk, months)] == [0, 0, 0]
