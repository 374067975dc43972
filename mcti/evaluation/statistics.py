"""Forms of a statistic that a bootstrap can weigh: sums over pairs, means over rows, and their ratios.

A statistic takes the number of times each patient was drawn, (count, n), and gives (count,) values; the plain value
is that of a row of ones. A resample with copies of patients, scored by the textbook formula, gives the same number.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mcti.arrays import FloatArray, IntArray

Statistic = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class PairBlock:
    """Pairs that may be compared, e.g. those of one fold.

    first (a,), second (b,) patients (rows of the cohort's table);  weight (a, b) of each ordered pair, 0 where it
    may not be compared;  score (a, b) in [0, 1]: 1 the pair stands as it should, 0.5 tied, 0 the wrong way round.
    """

    first: IntArray
    second: IntArray
    weight: FloatArray
    score: FloatArray


@dataclass(frozen=True)
class PairMean:
    """sum w_i w_j weight_ij score_ij / sum w_i w_j weight_ij over all blocks, for draws w: a weighted mean over pairs.

    NaN where no pair may be compared. O(count a b) for a block, as two matrix products.
    """

    blocks: tuple[PairBlock, ...]

    def __call__(self, draws: FloatArray) -> FloatArray:
        """draws (count, n) -> (count,)."""
        good, possible = np.zeros(len(draws)), np.zeros(len(draws))
        for block in self.blocks:
            left, right = draws[:, block.first], draws[:, block.second]
            good += np.einsum("ra,ra->r", left, right @ (block.weight * block.score).T)
            possible += np.einsum("ra,ra->r", left, right @ block.weight.T)
        return safe_ratio(good, possible)

    def only(self, block: int) -> "PairMean":
        """The same over one block, e.g. one fold."""
        return PairMean((self.blocks[block],))


@dataclass(frozen=True)
class RowMean:
    """sum w_i value_i / sum w_i: a mean over test rows, each weighed as its patient. patient (m,), value (m,)."""

    patient: IntArray
    value: FloatArray

    def __call__(self, draws: FloatArray) -> FloatArray:
        """draws (count, n) -> (count,)."""
        weights = draws[:, self.patient]
        return safe_ratio(weights @ self.value, weights.sum(axis=1))


@dataclass(frozen=True)
class Skill:
    """1 - loss / reference loss: 1 perfect, 0 no better than the reference, below 0 worse."""

    loss: Statistic
    reference: Statistic

    def __call__(self, draws: FloatArray) -> FloatArray:
        """draws (count, n) -> (count,)."""
        return 1 - safe_ratio(self.loss(draws), self.reference(draws))


@dataclass(frozen=True)
class MeanOfStatistics:
    """The plain mean of several statistics, e.g. over classes; NaN of none, or where one of them is."""

    parts: tuple[Statistic, ...]

    def __call__(self, draws: FloatArray) -> FloatArray:
        """draws (count, n) -> (count,)."""
        if not self.parts:
            return np.full(len(draws), np.nan)
        return np.asarray(np.mean([part(draws) for part in self.parts], axis=0), dtype=np.float64)


@dataclass(frozen=True)
class MacroF1:
    """Mean over classes of 2 TP / (2 TP + FP + FN), classes of the truth and of the guesses; 0 for one never right.

    patient (m,) the cohort's row of each test row;  truth, guessed (m,) words.
    """

    patient: IntArray
    truth: np.ndarray
    guessed: np.ndarray

    def __call__(self, draws: FloatArray) -> FloatArray:
        """draws (count, n) -> (count,)."""
        weights, scores = draws[:, self.patient], []
        for name in np.unique(np.concatenate([self.truth, self.guessed])):
            real, said = self.truth == name, self.guessed == name
            both = weights @ (real & said)
            f1 = safe_ratio(2 * both, weights @ real.astype(np.float64) + weights @ said.astype(np.float64))
            scores.append(np.nan_to_num(f1))
        return np.asarray(np.mean(scores, axis=0), dtype=np.float64)


def safe_ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """above / below, NaN where below is 0."""
    quotient = np.full(np.shape(below), np.nan)
    np.divide(above, below, out=quotient, where=below != 0)
    return quotient
