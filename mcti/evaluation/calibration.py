"""Calibration: whether of 100 patients with a predicted probability of 20 %, 20 have the event.

Survival probabilities are on one scale in all folds, so all test rows are used together. S(t) is the probability of
being *without* the event up to t; 1 - S(t) is the predicted probability of the event. Shapes: m test rows, h horizons.
"""

import math
from dataclasses import dataclass

import numpy as np

from mcti.arrays import FloatArray, IntArray
from mcti.evaluation.curves import KaplanMeier
from mcti.evaluation.metrics import status_weights
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.statistics import safe_ratio

MIN_LOGIT_SD = 0.05
"""Predicted log-odds with a smaller standard deviation have no meaningful slope."""

CONVERGED_STEP = 1e-8
"""A Newton step smaller than this ends the iteration: the next one would be about its square."""

RISK_LIMITS = (1e-4, 1 - 1e-4)
"""Predicted probabilities are limited to this range, because 0 and 1 have no log-odds."""


def calibration_groups(
    outcomes: Outcomes, survival: FloatArray, months: float, groups: int = 5
) -> dict[str, FloatArray]:
    """Predicted and observed event probability by `months` in groups of equal size by predicted risk.

    predicted: the mean of 1 - S in the group. observed, low, high: 1 - Kaplan-Meier of the group at `months` with its
    95 % interval on the log-minus-log scale; NaN where no patient of the group was followed up to `months`.

    Trap: groups hide miscalibration inside them. `RecalibrationCoefficient`, `Ici` and the Brier score do not.
    survival (m,) is S(months). Each array (g,), g <= groups, in the order of rising predicted risk.
    """
    order = np.argsort(-survival, kind="stable")
    columns: dict[str, list[float]] = {"predicted": [], "observed": [], "low": [], "high": []}
    for rows in (part for part in np.array_split(order, groups) if part.size):
        patients = outcomes.patient[rows]
        curve = KaplanMeier.fit(outcomes.event[patients], outcomes.time_months[patients], outcomes.entries(patients))
        observed = _observed(curve, months)
        for name, value in zip(columns, (float(1 - survival[rows].mean()), *observed), strict=True):
            columns[name].append(value)
    return {name: np.array(values) for name, values in columns.items()}


def _observed(curve: KaplanMeier, months: float) -> tuple[float, float, float]:
    """Event probability by `months` with the ends of its interval; NaN beyond the follow-up of the curve."""
    if not curve.is_defined_at(months):
        return math.nan, math.nan, math.nan
    low, high = curve.band()
    step = int(np.searchsorted(curve.times, months, side="right")) - 1
    value = 1 - float(curve.at(months))
    if step < 0:
        return value, 0.0, math.nan
    return value, 1 - float(high[step]), 1 - float(low[step])


@dataclass(frozen=True)
class WeightedStatus:
    """The status of every test row at a horizon, weighted for the rows whose status is not known.

    patient (m,)  rows of the cohort table
    had (m,)      1 event by the horizon, 0 none
    weight (m,)   inverse probability of a known status (`metrics.status_weights`), 0 where the status is unknown
    """

    patient: IntArray
    had: FloatArray
    weight: FloatArray


def weighted_status(outcomes: Outcomes, months: float) -> WeightedStatus:
    """Status of every test row at `months` with its censoring weight."""
    had, weight = np.zeros(len(outcomes.patient)), np.zeros(len(outcomes.patient))
    for fold, part in outcomes.parts():
        had[part], weight[part] = status_weights(fold, months)
    return WeightedStatus(outcomes.patient, had, weight)


@dataclass(frozen=True)
class RecalibrationCoefficient:
    """Calibration slope or intercept at a horizon, as a statistic of the drawn patients. No unit.

    logit P(event by t) = intercept + slope * logit(1 - S(t)), a logistic regression weighted for censoring
    (Cox 1958, Biometrika 45:562-565). Slope: 1 is right; below 1 the predictions are too extreme (overfitting), above 1
    too moderate. Intercept (calibration in the large): fitted with the slope fixed at 1; 0 is right, above 0 the
    predicted risks are too low.

    coefficient  slope | intercept
    """

    status: WeightedStatus
    logit: FloatArray
    coefficient: str

    def __call__(self, draws: FloatArray) -> FloatArray:
        """draws (count, n) -> (count,).

        NaN where all or no patients had the event, and for the slope where all predictions are nearly equal.
        """
        weights = draws[:, self.status.patient] * self.status.weight
        if self.coefficient == "intercept":
            return _logistic_newton(weights, self.status.had, np.ones((len(self.logit), 1)), self.logit)[:, 0]
        if self.logit.std() < MIN_LOGIT_SD:
            return np.full(len(draws), np.nan)
        columns = np.stack([np.ones(len(self.logit)), self.logit], axis=1)
        return _logistic_newton(weights, self.status.had, columns, np.zeros(len(self.logit)))[:, 1]


def recalibration(
    outcomes: Outcomes, survival: FloatArray, months: float, coefficient: str
) -> RecalibrationCoefficient:
    """The calibration `coefficient` (slope | intercept) at `months`; survival (m,) is S(months)."""
    return RecalibrationCoefficient(weighted_status(outcomes, months), _logit(survival), coefficient)


@dataclass(frozen=True)
class ObservedToExpected:
    """Observed / expected number of events by a horizon, as a statistic of the drawn patients. No unit.

    Calibration in the large on the scale of probabilities: 1 is right, above 1 the predicted risks are too low. The
    observed number is weighted for censoring; with the censoring curve of the same rows it is n (1 - Kaplan-Meier).

    risk (m,)       predicted event probability
    expected (m,)   weight of each row in the expected number: 1, or with late entry the weight of the status, since
                    patients of high risk are rarer in the table than at the origin
    """

    status: WeightedStatus
    risk: FloatArray
    expected: FloatArray | float = 1.0

    def __call__(self, draws: FloatArray) -> FloatArray:
        """draws (count, n) -> (count,)."""
        counts = draws[:, self.status.patient]
        return safe_ratio(counts @ (self.status.weight * self.status.had), counts @ (self.expected * self.risk))


def observed_to_expected(outcomes: Outcomes, survival: FloatArray, months: float) -> ObservedToExpected:
    """Observed / expected events by `months` (`ObservedToExpected`); survival (m,) is S(months)."""
    status = weighted_status(outcomes, months)
    return ObservedToExpected(status, 1 - survival, 1.0 if outcomes.entry_months is None else status.weight)


@dataclass(frozen=True)
class Ici:
    """Integrated calibration index: mean absolute difference between predicted and observed event probability.

    0 best, in units of probability (Austin, Harrell and van Klaveren 2020, Stat. Med. 39:2714-2742). The observed
    probability at a predicted risk is a smooth estimate: the logistic regression, weighted for censoring, of the event
    on the predicted log-odds and their square. It shows over- and under-prediction at both ends.

    Trap: the index is above 0 in every finite cohort, even where the model is perfectly calibrated. Compare it between
    models; do not test it against 0.

    risk (m,) predicted event probability;  columns (m, 3) of the regression
    """

    status: WeightedStatus
    risk: FloatArray
    columns: FloatArray

    def __call__(self, draws: FloatArray) -> FloatArray:
        """draws (count, n) -> (count,)."""
        counts = draws[:, self.status.patient]
        weights = counts * self.status.weight
        beta = _logistic_newton(weights, self.status.had, self.columns, np.zeros(len(self.risk)))
        observed = 1 / (1 + np.exp(-np.clip(beta @ self.columns.T, -30, 30)))
        return safe_ratio((counts * np.abs(observed - self.risk)).sum(axis=1), counts.sum(axis=1))


def ici(outcomes: Outcomes, survival: FloatArray, months: float) -> Ici:
    """The integrated calibration index at `months` (`Ici`); survival (m,) is S(months)."""
    return ici_of(weighted_status(outcomes, months), survival)


def ici_of(status: WeightedStatus, survival: FloatArray) -> Ici:
    """The integrated calibration index of the probability of no event (m,), for this status."""
    logit = _logit(survival)
    scaled = (logit - logit.mean()) / (logit.std() or 1.0)
    columns = np.stack([np.ones(len(logit)), scaled, scaled**2], axis=1)
    return Ici(status, 1 - survival, columns)


@dataclass(frozen=True)
class DCalibration:
    """Result of D-calibration: share (bins,) of the patients by S(time); p of the chi-square test."""

    share: FloatArray
    p: float


def d_calibration(outcomes: Outcomes, survival: FloatArray, horizons: FloatArray, bins: int = 5) -> DCalibration:
    """D-calibration (distribution calibration) up to the last horizon. A small p means: not calibrated.

    If the curves are right, S_i(time_i) is uniformly distributed: each of `bins` equal parts of [0, 1] holds an equal
    share of the patients. A patient censored at c is spread evenly over [0, S_i(c)]. A patient followed beyond the last
    horizon counts as censored at that horizon, because no later S is known. Between horizons log S is linear (constant
    hazard). With late entry S(time) / S(entry) takes the place of S(time), since the patients are known to have reached
    their entry; those who enter after the last horizon are left out. Chi-square test with bins - 1 degrees of freedom
    (Haider et al. 2020, JMLR 21(85)).

    Trap: the censored patients are spread evenly by construction, so with few events p is near 1 whatever the curves
    are. The test can show miscalibration; it cannot show calibration.

    survival (m, h), horizons (h,) months.
    """
    from scipy import stats

    time, event = outcomes.time_months[outcomes.patient], outcomes.event[outcomes.patient]
    entry = outcomes.entries(outcomes.patient)
    if entry is not None:
        entered = entry < horizons[-1]
        time, event, entry, survival = time[entered], event[entered], entry[entered], survival[entered]
    ended = event & (time <= horizons[-1])
    value = _log_linear(survival, horizons, np.minimum(time, horizons[-1]))
    if entry is not None:
        value = value / _log_linear(survival, horizons, entry)
    lower = np.arange(bins) / bins
    upper = lower + 1 / bins
    inside = ended[:, None] & (value[:, None] > lower) & (value[:, None] <= upper)
    inside[:, 0] |= ended & (value <= 0)
    overlap = np.clip(np.minimum(value[:, None], upper) - lower, 0, None)
    spread = np.where(ended[:, None], 0.0, overlap / np.maximum(value, 1e-12)[:, None])
    counts = (inside + spread).sum(axis=0)
    return DCalibration(counts / len(time), float(stats.chisquare(counts).pvalue))


def _logit(survival: FloatArray) -> FloatArray:
    """Log-odds of the event probability 1 - S, (m,)."""
    risk = np.clip(1 - survival, *RISK_LIMITS)
    return np.asarray(np.log(risk / (1 - risk)), dtype=np.float64)


def _log_linear(survival: FloatArray, horizons: FloatArray, months: FloatArray) -> FloatArray:
    """(m,) S_i(months_i) between the horizons, with log S linear from S(0) = 1; survival (m, h)."""
    grid = np.concatenate([[0.0], horizons])
    logs = np.concatenate([np.zeros((len(survival), 1)), np.log(np.clip(survival, 1e-9, 1))], axis=1)
    right = np.clip(np.searchsorted(grid, months, side="left"), 1, len(horizons))
    share = (months - grid[right - 1]) / (grid[right] - grid[right - 1])
    rows = np.arange(len(survival))
    return np.asarray(np.exp(logs[rows, right - 1] * (1 - share) + logs[rows, right] * share), dtype=np.float64)


def _logistic_newton(weights: FloatArray, had: FloatArray, columns: FloatArray, offset: FloatArray) -> FloatArray:
    """Many weighted logistic regressions at once: weights (r, m), had (m,), columns (m, k), offset (m,) -> (r, k).

    NaN where Newton's method does not converge: all or no patients had the event, or a column separates the two.
    """
    size = columns.shape[1]
    products = (columns[:, :, None] * columns[:, None, :]).reshape(len(columns), size * size)
    ridge = 1e-9 * np.eye(size)  # makes a singular problem solvable; it then does not converge

    def iterate(weights: FloatArray, beta: FloatArray, max_steps: int) -> tuple[FloatArray, FloatArray]:
        step = np.zeros_like(beta)
        fitted, term = np.empty(weights.shape), np.empty(weights.shape)  # reused: fresh memory costs time
        for _ in range(max_steps):
            np.matmul(beta, columns.T, out=fitted)
            fitted += offset
            np.clip(fitted, -30, 30, out=fitted)
            np.negative(fitted, out=fitted)
            np.exp(fitted, out=fitted)
            fitted += 1
            np.divide(1, fitted, out=fitted)
            np.subtract(had, fitted, out=term)
            term *= weights
            gradient = term @ columns
            np.subtract(1, fitted, out=term)
            term *= fitted
            term *= weights
            curvature = (term @ products).reshape(-1, size, size) + ridge
            step = np.clip(np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0], -2, 2)
            beta = beta + step
            if np.abs(step).max() < CONVERGED_STEP:
                break
        return beta, step

    # The solution for the mean weights is a good start: each resample then needs few steps.
    start, _ = iterate(weights.mean(axis=0, keepdims=True), np.zeros((1, size)), 30)
    weights = np.ascontiguousarray(weights)  # columns selected from the draws are stored column by column
    beta, last = iterate(weights, np.repeat(start, len(weights), axis=0), 12)
    return np.where(np.abs(last).max(axis=1, keepdims=True) < 1e-5, beta, np.nan)
