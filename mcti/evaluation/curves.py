"""Kaplan-Meier curves: of survival, of censoring, with their numbers at risk and their spread."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from mcti.arrays import BoolArray, FloatArray, IntArray

ROUNDING = 1e-9
"""A running product of k ratios is off by about k machine epsilons: a height this close to a share has reached it."""


@dataclass(frozen=True)
class StepFunction:
    """A right-continuous step function of time that starts at 1.

    times (k,) months, rising;  values (k,): the height from that time on.
    """

    times: FloatArray
    values: FloatArray

    def at(self, months: FloatArray | float) -> FloatArray:
        """Height at each of `months` (any shape); 1 before the first step, the last height after the last."""
        heights = np.concatenate([[1.0], self.values])
        return np.asarray(heights[np.searchsorted(self.times, months, side="right")], dtype=np.float64)

    def before(self, months: FloatArray | float) -> FloatArray:
        """Left limit at each of `months` (any shape): the height just before; 1 up to and at the first step."""
        heights = np.concatenate([[1.0], self.values])
        return np.asarray(heights[np.searchsorted(self.times, months, side="left")], dtype=np.float64)

    def quantile(self, share: float) -> float:
        """First time at which the curve is at or below `share` (within rounding); infinity when it never is."""
        below = np.flatnonzero(self.values <= share + ROUNDING)
        return float(self.times[below[0]]) if below.size else float("inf")


@dataclass(frozen=True)
class KaplanMeier(StepFunction):
    """The product-limit estimate with what a reader must see beside it.

    at_risk (k,) patients under observation just before each time;  variance (k,) Greenwood's, of the estimate.
    """

    at_risk: IntArray
    variance: FloatArray

    @classmethod
    def fit(cls, event: BoolArray, time_months: FloatArray) -> Self:
        """S(t) = prod over event times u <= t of (1 - d_u / n_u)  (Kaplan and Meier 1958, JASA 53:457-481).

        Patients censored at u count as at risk at u. Variance: S(t)² sum d / (n (n - d)) (Greenwood 1926); where
        the last patient at risk dies it is 0, since the curve is 0 there.
        """
        times, deaths, censored = _counts(event, time_months)
        at_risk = len(event) - np.concatenate([[0], np.cumsum(deaths + censored)[:-1]])
        values = np.cumprod(1 - deaths / at_risk)
        room = at_risk * (at_risk - deaths)
        spread = np.divide(deaths, room, out=np.zeros(len(times)), where=room > 0)
        return cls(times, values, at_risk, values**2 * np.cumsum(spread))

    def band(self, z: float = 1.959963984540054) -> tuple[FloatArray, FloatArray]:
        """Pointwise interval of the curve on the log-minus-log scale, which keeps it inside 0 and 1.

        Kalbfleisch and Prentice (1980), section 1.3; z is the normal quantile, 1.96 for 95 %.
        """
        inside = (self.values > 0) & (self.values < 1)
        values = np.where(inside, self.values, 0.5)
        width = z * np.sqrt(self.variance) / (values * np.abs(np.log(values)))
        low, high = values ** np.exp(width), values ** np.exp(-width)
        return np.where(inside, low, self.values), np.where(inside, high, self.values)

    def is_defined_at(self, months: float) -> bool:
        """Whether the curve is known at `months`: somebody was followed so long, or nobody is left to follow."""
        return bool(months <= self.times[-1] or self.values[-1] == 0)

    def number_at_risk(self, months: FloatArray) -> IntArray:
        """Patients still under observation just before each of `months`."""
        padded = np.concatenate([self.at_risk, [0]])
        return np.asarray(padded[np.searchsorted(self.times, months, side="left")], dtype=np.int64)


def median_follow_up(event: BoolArray, time_months: FloatArray) -> float:
    """Median follow-up in months by reverse Kaplan-Meier; infinity when it is not reached, never the longest time.

    Kaplan-Meier with the roles of event and censoring exchanged: an event ends the observation, not the follow-up
    (Schemper and Smith 1996, Controlled Clin. Trials 17:343-346). event, time_months (n,).
    """
    return KaplanMeier.fit(~event, time_months).quantile(0.5)


def censoring_curve(event: BoolArray, time_months: FloatArray) -> StepFunction:
    """G(t) = P(still uncensored after t), the Kaplan-Meier estimate with the roles of event and censoring exchanged.

    At a tied time events leave first, so they are not at risk of being censored there; the same convention as
    scikit-survival's CensoringDistributionEstimator.
    """
    times, deaths, censored = _counts(event, time_months)
    before = np.concatenate([[0], np.cumsum(deaths + censored)[:-1]])
    at_risk = len(event) - before - deaths
    ratio = np.divide(censored, at_risk, out=np.zeros(len(times)), where=censored > 0)
    return StepFunction(times, np.cumprod(1 - ratio))


def _counts(event: BoolArray, time_months: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Distinct times (k,), deaths (k,) and censorings (k,) at each."""
    times, position = np.unique(time_months, return_inverse=True)
    deaths = np.bincount(position, weights=event, minlength=len(times)).astype(np.float64)
    censored = np.bincount(position, weights=~event, minlength=len(times)).astype(np.float64)
    return times.astype(np.float64), deaths, censored
