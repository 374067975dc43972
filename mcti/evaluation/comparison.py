"""Intervals and paired differences: resampling of patients, folds that overlap, several comparisons at once."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mcti.arrays import BoolArray, FloatArray, IntArray
from mcti.evaluation.statistics import PairMean, Statistic


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its interval; an end is NaN where it cannot be known."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """For JSON, which has no NaN: what is not known is null."""
        return {name: finite(number) for name, number in vars(self).items()}


def finite(number: float) -> float | None:
    """The number, or None where it is NaN or infinite."""
    return float(number) if math.isfinite(number) else None


def resamples(event: BoolArray, count: int, seed: int, *, stratified: bool = True) -> FloatArray:
    """How often each patient is drawn in each of `count` bootstrap resamples, (count, n).

    Patients are drawn with replacement; stratified: those with an event among themselves and those without among
    themselves, so that every resample has the cohort's number of events (Davison and Hinkley 1997, section 3.2).
    Ranking metrics want that: without events they are not defined. A metric of absolute risk (Brier score,
    calibration, net benefit) must not have it: the number of events is part of what is uncertain there (measured: 95 %
    intervals of the Brier score held the truth in 87 % of cohorts). One matrix serves all models, so every difference
    between two is paired.
    """
    generator = np.random.default_rng(seed)
    counts = np.zeros((count, len(event)))
    strata = (np.flatnonzero(event), np.flatnonzero(~event)) if stratified else (np.arange(len(event)),)
    for stratum in strata:
        if stratum.size:
            share = np.full(stratum.size, 1 / stratum.size)
            counts[:, stratum] = generator.multinomial(stratum.size, share, size=count)
    return counts


@dataclass(frozen=True)
class Draws:
    """The resamples of one evaluation: stratified by event for rankings, free for absolute risks. (count, n) each."""

    stratified: FloatArray
    free: FloatArray

    @classmethod
    def sample(cls, event: BoolArray, count: int, seed: int, tested: IntArray | None = None) -> "Draws":
        """Both kinds from one seed; tested (t,): the rows that are drawn from (None: all), the others stay at 0."""
        rows = np.arange(len(event)) if tested is None else tested
        kinds = [np.zeros((count, len(event))), np.zeros((count, len(event)))]
        for kind, stratified in zip(kinds, (True, False), strict=True):
            kind[:, rows] = resamples(event[rows], count, seed, stratified=stratified)
        return cls(*kinds)

    def matching(self, statistic: Statistic) -> FloatArray:
        """The kind that a statistic wants: stratified for means over pairs."""
        return self.stratified if isinstance(statistic, PairMean) else self.free


def interval(statistic: Statistic, draws: FloatArray, confidence: float) -> Interval:
    """Value on the patients as they are, and the percentile interval over the resamples `draws` (count, n).

    Percentile interval (Efron and Tibshirani 1993, section 13.3); its coverage for the C of folds is measured in
    benchmarks/evaluation_coverage.py. It speaks of these fitted models on patients like these; the spread between
    training sets is the business of `nadeau_bengio`.
    """
    return percentiles(point(statistic, draws.shape[1]), statistic(draws), confidence)


def point(statistic: Statistic, patients: int) -> float:
    """The statistic on every patient once."""
    return float(statistic(np.ones((1, patients)))[0])


@dataclass(frozen=True)
class Difference:
    """One model minus another on the same resamples; p is two-sided, from the share of resamples beyond zero."""

    interval: Interval
    p: float


def paired(ours: Statistic, theirs: Statistic, draws: FloatArray, confidence: float) -> Difference:
    """The difference of two statistics, resampled together.

    The interval is of the *difference*: two models scored on one set of patients share most of their luck, so two
    overlapping single intervals say nothing about it. p = 2 min(share <= 0, share >= 0) with one added to each
    count, never 0 (Davison and Hinkley 1997, section 4.2).
    """
    value = point(ours, draws.shape[1]) - point(theirs, draws.shape[1])
    drawn = ours(draws) - theirs(draws)
    known = drawn[np.isfinite(drawn)]
    tail = min((known <= 0).sum(), (known >= 0).sum()) + 1
    p = min(1.0, 2 * float(tail) / (known.size + 1)) if known.size and math.isfinite(value) else float("nan")
    return Difference(percentiles(value, drawn, confidence), p)


@dataclass(frozen=True)
class FoldTest:
    """A mean difference over folds with an interval that knows the folds share their training patients."""

    interval: Interval
    p: float
    folds: int


def nadeau_bengio(differences: Sequence[float], test_share: float, confidence: float) -> FoldTest:
    """Corrected resampled t-test over the folds of one or several cross-validations.

    Variance of the mean = (1/J + n_test/n_train) s², t with J - 1 degrees of freedom (Nadeau and Bengio 2003,
    Machine Learning 52:239-281, equation for the corrected resampled t; Bouckaert and Frank 2004 for repeated CV).
    The plain t-test over folds takes them for independent and finds differences that are not there.

    Args
        differences: one a fold; folds without a defined value are left out.
        test_share: n_test / n_train, e.g. 1/4 in five folds.
    """
    from scipy import stats

    known = np.array([d for d in differences if math.isfinite(d)])
    if known.size < 2:
        nothing = float("nan")
        return FoldTest(Interval(nothing, nothing, nothing), nothing, int(known.size))
    mean = float(known.mean())
    error = math.sqrt((1 / known.size + test_share) * float(known.var(ddof=1)))
    half = float(stats.t.ppf(0.5 + confidence / 2, known.size - 1)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, known.size - 1)) if error > 0 else (1.0 if mean == 0 else 0.0)
    return FoldTest(Interval(mean, mean - half, mean + half), p, int(known.size))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment over a family of comparisons (Holm 1979, Scand. J. Statist. 6:65-70).

    Keeps the chance of any false claim in the family below the level. NaN stays NaN and does not count.
    """
    known = sorted((p, name) for name, p in p_values.items() if math.isfinite(p))
    adjusted, highest = dict.fromkeys(p_values, float("nan")), 0.0
    for rank, (p, name) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        adjusted[name] = highest
    return adjusted


def percentiles(value: float, drawn: FloatArray, confidence: float) -> Interval:
    """The two-sided percentile interval of what was `drawn`; no ends where one resample in ten is undefined."""
    known = drawn[np.isfinite(drawn)]
    # A statistic undefined in one resample out of ten (a horizon with hardly an event) has no honest interval.
    if known.size < 0.9 * drawn.size or not math.isfinite(value):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))
