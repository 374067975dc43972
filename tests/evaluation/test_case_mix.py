"""Case mix of two cohorts: moments, membership AUC, intervals."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mcti.errors import DataError
from mcti.evaluation import case_mix
from mcti.evaluation.case_mix import CaseMix
from tests.evaluation.factories import make_patients

NAMES = ["a", "b"]


def moments(values: np.ndarray) -> CaseMix:
    return CaseMix.fit(pd.DataFrame(values, columns=NAMES[: values.shape[1]]), 12.0)


def test_the_membership_auc_by_hand():
    """Four and five patients, one variable: Φ(Δ / √2) with the unbiased squared distance."""
    one, other = np.array([1.0, 2.0, 3.0, 6.0]), np.array([4.0, 7.0, 8.0, 9.0, 12.0])
    degrees, size = 7, 4 * 5 / 9
    pooled = (((one - 3.0) ** 2).sum() + ((other - 8.0) ** 2).sum()) / degrees
    squared = (degrees - 2) / degrees * 25 / pooled - 1 / size
    auc = 0.5 * (1 + math.erf(math.sqrt(squared / 2) / math.sqrt(2)))
    result = case_mix.membership(moments(one[:, None]), moments(other[:, None]), ["a"])
    assert result.auc.value == pytest.approx(auc, abs=1e-9)


def test_the_limits_are_noncentralities_of_the_f_distribution():
    """Oracle: scipy's noncentral F at the limits has the tail probabilities 2.5 % and 97.5 %."""
    random = np.random.default_rng(1)
    one, other = moments(random.normal(size=(40, 2))), moments(random.normal((1.0, 0.0), 1.0, (50, 2)))
    auc = case_mix.membership(one, other, NAMES).auc
    pooled = (39 * one.covariance + 49 * other.covariance) / 88
    gap = other.mean - one.mean
    value = 87 / (2 * 88) * (40 * 50 / 90) * gap @ np.linalg.inv(pooled) @ gap
    tails = [stats.ncf.cdf(value, 2, 87, 2 * stats.norm.ppf(end) ** 2 * (40 * 50 / 90)) for end in (auc.low, auc.high)]
    assert tails == pytest.approx([0.975, 0.025], abs=1e-6)


def test_the_interval_covers_the_true_auc():
    """200 pairs of normal cohorts: coverage 95 % with a standard error of 1.5 %, and a mean without bias."""
    random = np.random.default_rng(2)
    truth = stats.norm.cdf(math.sqrt(0.5 / 2))
    results = [
        case_mix.membership(moments(random.normal(size=(60, 2))), moments(random.normal(size=(50, 2)) + 0.5), NAMES).auc
        for _ in range(200)
    ]
    assert 0.9 <= np.mean([auc.low <= truth <= auc.high for auc in results]) <= 0.995
    assert np.mean([auc.value for auc in results]) == pytest.approx(truth, abs=0.015)


def test_it_agrees_with_the_logistic_membership_model():
    """Oracle: AUC of scikit-learn's logistic regression on the patients themselves, for normal variables."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(3)
    one, other = random.normal(size=(2000, 2)), random.normal(size=(2000, 2)) @ np.array([[1, 0.5], [0, 1]]) + [0.7, 0]
    table, label = np.concatenate([one, other]), np.repeat([0, 1], 2000)
    oracle = roc_auc_score(label, LogisticRegression().fit(table, label).decision_function(table))
    assert case_mix.membership(moments(one), moments(other), NAMES).auc.value == pytest.approx(oracle, abs=0.01)


def test_equal_cohorts_have_an_auc_of_one_half_and_a_constant_variable_is_left_out():
    values = np.random.default_rng(4).normal(size=(50, 1)) * [1.0, 0.0]
    result = case_mix.membership(moments(values), moments(values), NAMES)
    assert result.variables == ("a",)
    assert (result.auc.value, result.auc.low) == (0.5, 0.5)
    constant = case_mix.membership(moments(values * 0), moments(values * 0), NAMES)
    assert math.isnan(constant.auc.value)


def test_the_variables_are_the_linear_predictor_and_the_numeric_columns():
    patients = make_patients(50).assign(grade=2.0, ward="east")
    patients.loc[:20, "grade"] = np.nan  # more than a fifth: left out
    patients.loc[3, "age"] = np.nan
    survival = np.linspace(0.1, 0.9, 50)
    table = case_mix.variables(patients, survival)
    assert list(table) == [case_mix.LINEAR_PREDICTOR, "age", "is_female", "x"]
    np.testing.assert_allclose(table[case_mix.LINEAR_PREDICTOR], np.log(-np.log(survival)), atol=1e-12)
    assert CaseMix.fit(table, 36.0).patients == 49


def test_differences_by_hand_and_json_and_back():
    one, other = moments(np.array([[0.0], [2.0]])), moments(np.array([[1.0], [5.0]]))
    (row,) = case_mix.differences(one, other)
    assert row["development"] == {"mean": 1.0, "sd": pytest.approx(math.sqrt(2))}
    assert row["standardised_difference"] == pytest.approx(2 / math.sqrt((2 + 8) / 2))
    again = CaseMix.from_dict(one.as_dict(), "case_mix.json")
    assert again.as_dict() == one.as_dict()
    with pytest.raises(DataError, match="not the moments of a cohort"):
        CaseMix.from_dict({"variables": ["a"], "mean": []}, "case_mix.json")
