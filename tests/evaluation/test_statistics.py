"""Statistics of drawn patients against the values of copied rows."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from mcti.evaluation.statistics import MacroF1, MeanOfStatistics, PairBlock, PairMean, RowMean, Skill, safe_ratio

DRAWS = np.array([[1.0, 1.0, 1.0], [2.0, 0.0, 1.0], [0.0, 0.0, 3.0]])


def test_a_row_mean_weights_each_row_by_its_patient():
    """Rows of patients 0, 0, 2 with values 1, 3, 8."""
    mean = RowMean(np.array([0, 0, 2]), np.array([1.0, 3.0, 8.0]))
    np.testing.assert_allclose(mean(DRAWS), [12 / 3, (2 * 1 + 2 * 3 + 8) / 5, 8.0])


def test_a_pair_mean_weights_each_pair_by_both_patients_and_is_nan_without_a_pair():
    """Pairs (0, 1) with score 1 and (0, 2) with score 0."""
    block = PairBlock(np.array([0]), np.array([1, 2]), np.ones((1, 2)), np.array([[1.0, 0.0]]))
    pairs = PairMean((block,))
    values = pairs(DRAWS)
    np.testing.assert_allclose(values[:2], [0.5, 0.0])
    assert np.isnan(values[2])
    np.testing.assert_allclose(pairs.only(0)(DRAWS)[:2], values[:2])


def test_skill_is_one_minus_the_ratio_of_the_losses():
    loss, reference = (RowMean(np.arange(3), values) for values in (np.array([1.0, 1, 4]), np.array([2.0, 4, 6])))
    np.testing.assert_allclose(Skill(loss, reference)(DRAWS), [1 - 2 / 4, 1 - (6 / 3) / (10 / 3), 1 - 4 / 6])


def test_the_mean_of_no_statistics_is_nan():
    mean = RowMean(np.arange(3), np.array([1.0, 2, 3]))
    np.testing.assert_allclose(MeanOfStatistics((mean, mean))(DRAWS), mean(DRAWS))
    assert np.isnan(MeanOfStatistics(())(DRAWS)).all()


def test_macro_f1_agrees_with_scikit_learn_under_weights():
    truth, predicted = np.array(["a", "b", "b"]), np.array(["a", "a", "b"])
    values = MacroF1(np.arange(3), truth, predicted)(DRAWS)
    for weights, value in zip(DRAWS[:2], values[:2], strict=True):
        expected = f1_score(truth, predicted, average="macro", sample_weight=weights, zero_division=0)
        assert value == pytest.approx(expected)


def test_a_ratio_with_denominator_zero_is_nan():
    ratio = safe_ratio(np.array([1.0, 2.0]), np.array([2.0, 0.0]))
    assert ratio[0] == 0.5
    assert np.isnan(ratio[1])
