"""Random-effects estimate of one number over several cohorts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcti.arrays import FloatArray


@dataclass(frozen=True)
class Pooled:
    """The mean over the population of cohorts, in the unit of the estimates.

    low, high      interval of the mean; NaN with one cohort
    tau            standard deviation between cohorts
    heterogeneity  I², share of the variance of the estimates that lies between cohorts
    """

    value: float
    low: float
    high: float
    tau: float
    heterogeneity: float


def pool(estimates: Sequence[float], standard_errors: Sequence[float], confidence: float = 0.95) -> Pooled:
    """Random-effects mean: variance between cohorts by Paule and Mandel, interval by Hartung and Knapp.

    The interval uses t with k - 1 degrees of freedom and the factor max(1, q): it is never narrower than that of a
    common effect (Veroniki et al. 2016, Res. Synth. Methods 7:55-79; Röver, Knapp and Friede 2015, BMC Med. Res.
    Methodol. 15:99). estimates (k,), standard errors (k,) above 0.

    Raises ValueError when there is no estimate or a standard error is not above 0
    """
    from scipy import stats

    y, variances = np.asarray(estimates, dtype=np.float64), np.square(np.asarray(standard_errors, dtype=np.float64))
    if not len(y) or not (variances > 0).all() or not np.isfinite(y).all():
        raise ValueError(f"estimates {list(y)} with standard errors {list(standard_errors)} cannot be pooled")
    tau2 = between_cohorts(y, variances)
    mean, error = _weighted(y, variances + tau2)
    heterogeneity = max(0.0, 1 - (len(y) - 1) / q) if (q := _q(y, variances, 0.0)) > 0 else 0.0
    if len(y) == 1:
        return Pooled(mean, math.nan, math.nan, 0.0, 0.0)
    factor = max(1.0, _q(y, variances, tau2) / (len(y) - 1))
    width = float(stats.t.ppf((1 + confidence) / 2, len(y) - 1)) * error * math.sqrt(factor)
    return Pooled(mean, mean - width, mean + width, math.sqrt(tau2), heterogeneity)


def between_cohorts(estimates: FloatArray, variances: FloatArray) -> float:
    """Variance between cohorts at which Cochran's Q is k - 1; 0 where Q is smaller without one (Paule and Mandel 1982).

    estimates (k,), variances (k,)
    """
    from scipy.optimize import brentq

    def excess(tau2: float) -> float:
        return _q(estimates, variances, tau2) - (len(estimates) - 1)

    if excess(0.0) <= 0:
        return 0.0
    high = float(np.var(estimates) * len(estimates) + variances.max())
    while excess(high) > 0:
        high *= 2
    return float(brentq(excess, 0.0, high, xtol=1e-14))


def _weighted(estimates: FloatArray, variances: FloatArray) -> tuple[float, float]:
    weights = 1 / variances
    return float(weights @ estimates / weights.sum()), float(weights.sum() ** -0.5)


def _q(estimates: FloatArray, variances: FloatArray, tau2: float) -> float:
    mean, _ = _weighted(estimates, variances + tau2)
    return float(np.sum((estimates - mean) ** 2 / (variances + tau2)))
