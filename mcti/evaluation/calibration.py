"""Whether a predicted probability of 20 % means that 20 in 100 have the event.

Survival probabilities are on one scale in all folds, so all test rows are taken together. S is the probability of
*no* event by a time; 1 - S the predicted risk.
"""

import math
from dataclasses import dataclass

import numpy as np

from mcti.arrays import FloatArray, IntArray
from mcti.evaluation.curves import KaplanMeier
from mcti.evaluation.metrics import status_weights
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.statistics import safe_ratio


def calibration_groups(
    outcomes: Outcomes, survival: FloatArray, months: float, groups: int = 5
) -> dict[str, FloatArray]:
    """Predicted and observed event probability by `months` in groups of equal size by predicted risk.

    survival (m,) is S(months). predicted: the group's mean of 1 - S; observed: 1 - Kaplan-Meier of the group at
    `months`, with its 95 % interval on the log-minus-log scale; NaN for a group that was not followed so long. Each
    array (g,), g <= groups. Groups hide what happens inside them: `Recalibration`, `Ici` and the Brier score do not.
    """
    order = np.argsort(-survival, kind="stable")
    rows = [part for part in np.array_split(order, groups) if part.size]
    found: dict[str, list[float]] = {"predicted": [], "observed": [], "low": [], "high": []}
    for part in rows:
        patients = outcomes.patient[part]
        curve = KaplanMeier.fit(outcomes.event[patients], outcomes.time_months[patients])
        low, high = curve.band()
        here = int(np.searchsorted(curve.times, months, side="right")) - 1
        followed = curve.is_defined_at(months)
        found["predicted"].append(float(1 - survival[part].mean()))
        found["observed"].append(1 - float(curve.at(months)) if followed else math.nan)
        found["low"].append((1 - float(high[here]) if here >= 0 else 0.0) if followed else math.nan)
        found["high"].append(1 - float(low[here]) if here >= 0 and followed else math.nan)
    return {name: np.array(values) for name, values in found.items()}


FLAT = 0.05
"""Predicted log-odds that vary less than this (standard deviation) have no slope worth the name."""


SETTLED = 1e-8
"""A Newton step smaller than this ends the iteration; the next would be its square."""


@dataclass(frozen=True)
class WeightedStatus:
    """Who had the event by a horizon, weighed for those whose fate is not known there.

    had (m,) 1 event by the horizon, 0 not;  weight (m,) inverse probability of being known, 0 where unknown.
    """

    patient: IntArray
    had: FloatArray
    weight: FloatArray


def weighted_status(outcomes: Outcomes, months: float) -> WeightedStatus:
    """Status of every test row at `months` with the weights of `metrics.status_weights`."""
    had, weight = np.zeros(len(outcomes.patient)), np.zeros(len(outcomes.patient))
    for fold, part in outcomes.parts():
        had[part], weight[part] = status_weights(fold, months)
    return WeightedStatus(outcomes.patient, had, weight)


@dataclass(frozen=True)
class Recalibration:
    """Slope or intercept of the event on the predicted log-odds at a horizon, as a statistic of drawn patients.

    logit P(event by t) = intercept + slope * logit(1 - S(t)), weighed logistic regression (Cox 1958, Biometrika 45:
    562-565; weights for censoring). slope 1 is right, below 1 too extreme (overfitted), above 1 too timid. The
    intercept is the one with slope 1 (calibration in the large): 0 right, above 0 the predictions are too low.
    """

    known: WeightedStatus
    logit: FloatArray
    wanted: str

    def __call__(self, draws: FloatArray) -> FloatArray:
        """draws (count, n) -> (count,); NaN where all or none had the event, or (slope) all predictions are alike."""
        weights = draws[:, self.known.patient] * self.known.weight
        if self.wanted == "intercept":
            return _newton(weights, self.known.had, np.ones((len(self.logit), 1)), self.logit)[:, 0]
        if self.logit.std() < FLAT:
            return np.full(len(draws), np.nan)
        columns = np.stack([np.ones(len(self.logit)), self.logit], axis=1)
        return _newton(weights, self.known.had, columns, np.zeros(len(self.logit)))[:, 1]


def recalibration(outcomes: Outcomes, survival: FloatArray, months: float, wanted: str) -> Recalibration:
    """`wanted`: slope | intercept. survival (m,) is S(months)."""
    risk = np.clip(1 - survival, 1e-4, 1 - 1e-4)  # certainty has no log-odds
    return Recalibration(weighted_status(outcomes, months), np.log(risk / (1 - risk)), wanted)


@dataclass(frozen=True)
class Ici:
    """Integrated calibration index: mean |predicted - observed| with a smooth estimate of what is observed.

    (Austin, Harrell and van Klaveren 2020, Stat. Med. 39:2714-2742.) 0 best. Observed at a predicted risk: the
    weighed logistic regression of the event on the predicted log-odds and its square, so that over- and
    under-prediction at both ends show. Always above 0 in a finite cohort, though the truth be calibrated.
    """

    known: WeightedStatus
    risk: FloatArray
    columns: FloatArray

    def __call__(self, draws: FloatArray) -> FloatArray:
        """draws (count, n) -> (count,)."""
        counts = draws[:, self.known.patient]
        beta = _newton(counts * self.known.weight, self.known.had, self.columns, np.zeros(len(self.risk)))
        observed = 1 / (1 + np.exp(-np.clip(beta @ self.columns.T, -30, 30)))
        return safe_ratio((counts * np.abs(observed - self.risk)).sum(axis=1), counts.sum(axis=1))


def ici(outcomes: Outcomes, survival: FloatArray, months: float) -> Ici:
    """See `Ici`; survival (m,) is S(months)."""
    risk = np.clip(1 - survival, 1e-4, 1 - 1e-4)
    logit = np.log(risk / (1 - risk))
    scaled = (logit - logit.mean()) / (logit.std() or 1.0)
    return Ici(
        weighted_status(outcomes, months), 1 - survival, np.stack([np.ones(len(logit)), scaled, scaled**2], axis=1)
    )


@dataclass(frozen=True)
class DCalibration:
    """How evenly S(time) of those who had the event spreads over [0, 1]. share (bins,); p of the chi-square test."""

    share: FloatArray
    p: float


def d_calibration(outcomes: Outcomes, survival: FloatArray, horizons: FloatArray, bins: int = 5) -> DCalibration:
    """D-calibration up to the last horizon (Haider et al. 2020, JMLR 21(85)).

    If the curves are right, S_i(time_i) is uniform: each of `bins` equal parts of [0, 1] holds an equal share of the
    patients. One censored at c spreads their mass evenly over [0, S_i(c)]; one followed beyond the last horizon counts
    as censored there, since no later S is known. Between horizons log S is a straight line (constant hazard).
    Chi-square with bins - 1 degrees of freedom; p small: not calibrated. The censored are spread evenly by
    construction, so with few events p is near 1 whatever the curves: it can accuse, it cannot acquit.
    survival (m, h), horizons (h,) months.
    """
    from scipy import stats

    time, event = outcomes.time_months[outcomes.patient], outcomes.event[outcomes.patient]
    ended = event & (time <= horizons[-1])
    value = _log_linear(survival, horizons, np.minimum(time, horizons[-1]))
    lower = np.arange(bins) / bins
    upper = lower + 1 / bins
    inside = ended[:, None] & (value[:, None] > lower) & (value[:, None] <= upper)
    inside[:, 0] |= ended & (value <= 0)
    reached = np.clip(np.minimum(value[:, None], upper) - lower, 0, None)
    spread = np.where(ended[:, None], 0.0, reached / np.maximum(value, 1e-12)[:, None])
    counts = (inside + spread).sum(axis=0)
    return DCalibration(counts / len(time), float(stats.chisquare(counts).pvalue))


def _log_linear(survival: FloatArray, horizons: FloatArray, months: FloatArray) -> FloatArray:
    """(m,) S_i(months_i) between the horizons, log S a straight line from S(0) = 1; survival (m, h)."""
    knots = np.concatenate([[0.0], horizons])
    logs = np.concatenate([np.zeros((len(survival), 1)), np.log(np.clip(survival, 1e-9, 1))], axis=1)
    right = np.clip(np.searchsorted(knots, months, side="left"), 1, len(horizons))
    share = (months - knots[right - 1]) / (knots[right] - knots[right - 1])
    rows = np.arange(len(survival))
    return np.asarray(np.exp(logs[rows, right - 1] * (1 - share) + logs[rows, right] * share), dtype=np.float64)


def _newton(weights: FloatArray, had: FloatArray, columns: FloatArray, offset: FloatArray) -> FloatArray:
    """Logistic regressions side by side: weights (r, m), had (m,), columns (m, k), offset (m,) -> beta (r, k).

    NaN where Newton's steps do not settle: all or none had the event, or the two are separated.
    """
    size = columns.shape[1]
    products = (columns[:, :, None] * columns[:, None, :]).reshape(len(columns), size * size)
    ridge = 1e-9 * np.eye(size)  # a singular problem gets an answer, and never settles

    def steps(weights: FloatArray, beta: FloatArray, most: int) -> tuple[FloatArray, FloatArray]:
        step = np.zeros_like(beta)
        for _ in range(most):
            fitted = 1 / (1 + np.exp(-np.clip(beta @ columns.T + offset, -30, 30)))
            gradient = (weights * (had - fitted)) @ columns
            curvature = ((weights * (fitted * (1 - fitted))) @ products).reshape(-1, size, size) + ridge
            step = np.clip(np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0], -2, 2)
            beta = beta + step
            if np.abs(step).max() < SETTLED:
                break
        return beta, step

    # From the answer for the mean weights a resample's is a few steps away.
    start, _ = steps(weights.mean(axis=0, keepdims=True), np.zeros((1, size)), 30)
    beta, last = steps(weights, np.repeat(start, len(weights), axis=0), 12)
    return np.where(np.abs(last).max(axis=1, keepdims=True) < 1e-5, beta, np.nan)
