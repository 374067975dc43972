"""Intervals and paired differences: bootstrap over patients, tests over folds, correction for several comparisons."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mcti.arrays import BoolArray, FloatArray, IntArray
from mcti.evaluation.statistics import PairMean, Statistic

MIN_DEFINED_SHARE = 0.9
"""A statistic that is undefined in more than one resample in ten (few events before a horizon) gets no interval."""
CONFIDENCE = 0.95
"""Level of the intervals of an evaluation. Model cards, dossiers and the monitoring depend on this value."""
SEED = 7
"""Seed of the resamples of gates and monitoring: no setting, because a decision must not depend on a chosen seed."""


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its interval, in the unit of the value; an end is NaN where it is not defined."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """{value, low, high} in the unit of the statistic, for JSON: null where a number is not defined."""
        return {name: finite(number) for name, number in vars(self).items()}


def finite(number: float) -> float | None:
    """The scalar itself, or None where it is NaN or infinite."""
    return float(number) if math.isfinite(number) else None


def resamples(event: BoolArray, count: int, seed: int, *, stratified: bool = True) -> FloatArray:
    """How often each patient is drawn in each of `count` bootstrap resamples, (count, n).

    Patients are drawn with replacement. Stratified: patients with and without an event are drawn separately, so that
    every resample has the number of events of the cohort (Davison and Hinkley 1997, section 3.2). One matrix serves all
    models, so every difference between two models is paired. event (n,).

    Trap: ranking metrics need the stratified draw, because they are undefined without events. A metric of absolute risk
    (Brier score, calibration, net benefit) must not use it: there the number of events is part of the uncertainty
    (measured: stratified 95 % intervals of the Brier score covered the true value in 87 % of cohorts).
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
    """The resamples of one evaluation, (count, n) each.

    stratified    by event, for rankings;  unstratified  for absolute risks
    """

    stratified: FloatArray
    unstratified: FloatArray

    @classmethod
    def sample(cls, event: BoolArray, count: int, seed: int, tested: IntArray | None = None) -> "Draws":
        """Both kinds of resamples from one seed.

        event (n,);  tested (t,)  the rows that are drawn from (None: all); the other rows keep the count 0
        """
        rows = np.arange(len(event)) if tested is None else tested
        draws = [np.zeros((count, len(event))), np.zeros((count, len(event)))]
        for matrix, stratified in zip(draws, (True, False), strict=True):
            matrix[:, rows] = resamples(event[rows], count, seed, stratified=stratified)
        return cls(*draws)

    def matching(self, statistic: Statistic) -> FloatArray:
        """The resamples that fit a statistic: stratified for means over pairs, unstratified for all others."""
        return self.stratified if isinstance(statistic, PairMean) else self.unstratified


def interval(statistic: Statistic, draws: FloatArray, confidence: float = CONFIDENCE) -> Interval:
    """The value on the cohort, and the percentile interval over the resamples `draws` (count, n).

    Percentile interval (Efron and Tibshirani 1993, section 13.3). Its coverage for the C over folds is measured in
    benchmarks/evaluation_coverage.py. The interval describes these fitted models on patients like these. The variation
    between training sets is described by `nadeau_bengio`. confidence in (0, 1), for example 0.95.
    """
    return percentiles(point(statistic, draws.shape[1]), statistic(draws), confidence)


def point(statistic: Statistic, patients: int) -> float:
    """The value of the statistic, in its unit, on the cohort: each of the `patients` patients once."""
    return float(statistic(np.ones((1, patients)))[0])


@dataclass(frozen=True)
class Difference:
    """One model minus another on the same resamples; p two-sided, from the share of resamples beyond zero."""

    interval: Interval
    p: float


def paired(
    statistic: Statistic, comparator: Statistic, draws: FloatArray, confidence: float = CONFIDENCE
) -> Difference:
    """The difference `statistic` - `comparator` of two models, resampled together.

    p = 2 min(share of resamples <= 0, share >= 0), with one added to each count, so that p is never 0 (Davison and
    Hinkley 1997, section 4.2). draws (count, n), confidence in (0, 1).

    Trap: the interval is that of the *difference*. Two models that are scored on the same patients share most of their
    sampling error, so overlapping intervals of the single values do not show that the models are equal.
    """
    value = point(statistic, draws.shape[1]) - point(comparator, draws.shape[1])
    differences = statistic(draws) - comparator(draws)
    known = differences[np.isfinite(differences)]
    tail = min((known <= 0).sum(), (known >= 0).sum()) + 1
    p = min(1.0, 2 * float(tail) / (known.size + 1)) if known.size and math.isfinite(value) else float("nan")
    return Difference(percentiles(value, differences, confidence), p)


@dataclass(frozen=True)
class FoldTest:
    """A mean difference over folds; interval and p allow for the training patients that the folds share."""

    interval: Interval
    p: float
    folds: int


def nadeau_bengio(differences: Sequence[float], test_share: float, confidence: float = CONFIDENCE) -> FoldTest:
    """Corrected resampled t-test over the folds of one or several cross-validations.

    Variance of the mean = (1/J + n_test/n_train) s², t with J - 1 degrees of freedom for J folds (Nadeau and Bengio
    2003, Machine Learning 52:239-281; Bouckaert and Frank 2004 for repeated cross-validation).

    Trap: the uncorrected t-test treats the folds as independent and reports differences that do not exist.

    Args
        differences: one per fold; folds without a defined value are left out
        test_share: n_test / n_train, for example 1/4 with five folds
        confidence: in (0, 1)
    """
    from scipy import stats

    known = np.array([d for d in differences if math.isfinite(d)])
    if known.size < 2:
        undefined = float("nan")
        return FoldTest(Interval(undefined, undefined, undefined), undefined, int(known.size))
    mean = float(known.mean())
    error = math.sqrt((1 / known.size + test_share) * float(known.var(ddof=1)))
    half = float(stats.t.ppf(0.5 + confidence / 2, known.size - 1)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, known.size - 1)) if error > 0 else (1.0 if mean == 0 else 0.0)
    return FoldTest(Interval(mean, mean - half, mean + half), p, int(known.size))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction for a family of comparisons: {name: adjusted p}.

    It keeps the probability of at least one false claim in the family below the level (Holm 1979, Scand. J. Statist.
    6:65-70). NaN stays NaN and does not count as a comparison.
    """
    known = sorted((p, name) for name, p in p_values.items() if math.isfinite(p))
    adjusted, highest = dict.fromkeys(p_values, float("nan")), 0.0
    for rank, (p, name) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        adjusted[name] = highest
    return adjusted


def percentiles(value: float, resampled: FloatArray, confidence: float) -> Interval:
    """`value` with the two-sided percentile interval of the `resampled` values (count,).

    The ends are NaN where `value` is not defined or fewer than nine resamples in ten are.
    """
    known = resampled[np.isfinite(resampled)]
    if known.size < MIN_DEFINED_SHARE * resampled.size or not math.isfinite(value):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high))
