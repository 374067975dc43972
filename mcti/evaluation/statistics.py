"""Forms of a statistic that a weighted bootstrap can evaluate: sums over pairs, means over rows, and their ratios.

A statistic is a function of `draws`, an array (count, n): how often each of the n patients was drawn in each of `count`
bootstrap resamples. It returns (count,) values. A row of ones gives the value on the cohort itself. A resample that
holds copies of patients, scored by the textbook formula, gives the same number as the row of its counts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mcti.arrays import FloatArray, IntArray

Statistic = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class PairBlock:
    """Pairs of patients that may be compared, for example those of one fold.

    first (a,), second (b,)   patients, as rows of the cohort table
    weight (a, b)             weight of each ordered pair, no unit; 0 where the pair may not be compared
    score (a, b)              in [0, 1]: 1 where the pair is ordered correctly, 0.5 where it is tied, 0 where it is not
    """

    first: IntArray
    second: IntArray
    weight: FloatArray
    score: FloatArray


@dataclass(frozen=True)
class PairMean:
    """Weighted mean over pairs: sum w_i w_j weight_ij score_ij / sum w_i w_j weight_ij over all blocks, for draws w.

    In [0, 1]; NaN where no pair may be compared. Cost: O(count a b) per block, as two matrix products.
    """

    blocks: tuple[PairBlock, ...]

    def __call__(self, draws: FloatArray) -> FloatArray:
        """draws (count, n) -> (count,)."""
        correct, possible = np.zeros(len(draws)), np.zeros(len(draws))
        for block in self.blocks:
            left, right = draws[:, block.first], draws[:, block.second]
            correct += np.einsum("ra,ra->r", left, right @ (block.weight * block.score).T)
            possible += np.einsum("ra,ra->r", left, right @ block.weight.T)
        return safe_ratio(correct, possible)

    def only(self, block: int) -> "PairMean":
        """The same statistic over one block, for example over one fold."""
        return PairMean((self.blocks[block],))


@dataclass(frozen=True)
class RowMean:
    """Mean over test rows: sum w_i value_i / sum w_i. Each row has the weight of its patient.

    patient (m,)  the patient of each test row, as a row of the cohort table;  value (m,)  in the unit of the result
    """

    patient: IntArray
    value: FloatArray

    def __call__(self, draws: FloatArray) -> FloatArray:
        """draws (count, n) -> (count,)."""
        weights = draws[:, self.patient]
        return safe_ratio(weights @ self.value, weights.sum(axis=1))


@dataclass(frozen=True)
class Skill:
    """1 - loss / reference loss. Higher is better: 1 perfect, 0 equal to the reference, below 0 worse. No unit."""

    loss: Statistic
    reference: Statistic

    def __call__(self, draws: FloatArray) -> FloatArray:
        """draws (count, n) -> (count,)."""
        return 1 - safe_ratio(self.loss(draws), self.reference(draws))


@dataclass(frozen=True)
class MeanOfStatistics:
    """Unweighted mean of several statistics, for example over classes; NaN without any, or where one of them is NaN."""

    parts: tuple[Statistic, ...]

    def __call__(self, draws: FloatArray) -> FloatArray:
        """draws (count, n) -> (count,)."""
        if not self.parts:
            return np.full(len(draws), np.nan)
        return np.asarray(np.mean([part(draws) for part in self.parts], axis=0), dtype=np.float64)


@dataclass(frozen=True)
class MacroF1:
    """Macro-F1: mean over classes of F1 = 2 TP / (2 TP + FP + FN). Higher is better: 1 perfect, 0 never correct.

    The classes are those of the true and of the predicted labels together. A class that is never predicted correctly
    contributes 0.

    patient (m,)          the patient of each test row, as a row of the cohort table
    truth, predicted (m,) class names
    """

    patient: IntArray
    truth: np.ndarray
    predicted: np.ndarray

    def __call__(self, draws: FloatArray) -> FloatArray:
        """draws (count, n) -> (count,)."""
        weights, scores = draws[:, self.patient], []
        for name in np.unique(np.concatenate([self.truth, self.predicted])):
            is_class, is_predicted = self.truth == name, self.predicted == name
            true_positive = weights @ (is_class & is_predicted)
            positives = weights @ is_class.astype(np.float64) + weights @ is_predicted.astype(np.float64)
            scores.append(np.nan_to_num(safe_ratio(2 * true_positive, positives)))
        return np.asarray(np.mean(scores, axis=0), dtype=np.float64)


def safe_ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """numerator / denominator element by element, NaN where the denominator is 0; any one shape."""
    quotient = np.full(np.shape(denominator), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator != 0)
    return quotient
