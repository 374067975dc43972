"""Kaplan-Meier curves of survival and of censoring, with numbers at risk and pointwise intervals. Times are months."""

from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np

from mcti.arrays import BoolArray, FloatArray, IntArray

ROUNDING = 1e-9
"""A running product of k ratios has a rounding error of about k machine epsilons. `quantile` allows for it."""

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution: half the width of a two-sided 95 % interval."""


@dataclass(frozen=True)
class StepFunction:
    """A right-continuous step function of time that starts at 1.

    times (k,)  months, strictly rising;  values (k,)  the height from that time on, no unit
    """

    times: FloatArray
    values: FloatArray

    def at(self, months: FloatArray | float) -> FloatArray:
        """Height at each of `months` (any shape): 1 before the first step, the last height after the last step."""
        return self._height(months, "right")

    def before(self, months: FloatArray | float) -> FloatArray:
        """Left limit at each of `months` (any shape): the height just before; 1 up to and at the first step."""
        return self._height(months, "left")

    def _height(self, months: FloatArray | float, side: Literal["left", "right"]) -> FloatArray:
        heights = np.concatenate([[1.0], self.values])
        return np.asarray(heights[np.searchsorted(self.times, months, side=side)], dtype=np.float64)

    def quantile(self, share: float) -> float:
        """First time in months at which the curve is at or below `share` (within rounding); infinity without one."""
        below = np.flatnonzero(self.values <= share + ROUNDING)
        return float(self.times[below[0]]) if below.size else float("inf")


@dataclass(frozen=True)
class KaplanMeier(StepFunction):
    """The Kaplan-Meier (product-limit) estimate of the probability of being without the event.

    at_risk (k,)   patients under observation just before each time
    variance (k,)  Greenwood's variance of the estimate
    entries (n,)   entries under observation, rising; empty: all patients are observed from the origin
    """

    at_risk: IntArray
    variance: FloatArray
    entries: FloatArray = field(default_factory=lambda: np.empty(0))

    @classmethod
    def fit(cls, event: BoolArray, time_months: FloatArray, entry_months: FloatArray | None = None) -> Self:
        """Estimate the curve from follow-up.

        S(t) = prod over event times u <= t of (1 - d_u / n_u), with d_u events and n_u patients at risk at u
        (Kaplan and Meier 1958, JASA 53:457-481). Patients censored at u count as at risk at u.
        Variance: S(t)² sum d / (n (n - d)) (Greenwood 1926). It is 0 where the last patient at risk has the event,
        because the curve is 0 from then on.

        Left truncation: a patient is at risk in (entry, time] (Tsai, Jewell and Wang 1987, Biometrika 74:883-886).

        event (n,), time_months (n,), entry_months (n,), None: the origin.
        """
        times, deaths, censored = _counts(event, time_months)
        at_risk = len(event) - np.concatenate([[0], np.cumsum(deaths + censored)[:-1]])
        entries = np.empty(0) if entry_months is None else np.sort(entry_months)
        if entry_months is not None:
            at_risk = at_risk - _not_entered(entries, times)
        values = np.cumprod(1 - deaths / at_risk)
        denominator = at_risk * (at_risk - deaths)
        hazard_variance = np.divide(deaths, denominator, out=np.zeros(len(times)), where=denominator > 0)
        return cls(times, values, at_risk, values**2 * np.cumsum(hazard_variance), entries)

    def band(self, z: float = Z_95) -> tuple[FloatArray, FloatArray]:
        """Lower and upper end (k,) of the pointwise interval on the log-minus-log scale, which stays inside [0, 1].

        Kalbfleisch and Prentice (1980), section 1.3. z is the normal quantile, 1.96 for a 95 % interval.
        """
        inside = (self.values > 0) & (self.values < 1)
        values = np.where(inside, self.values, 0.5)
        width = z * np.sqrt(self.variance) / (values * np.abs(np.log(values)))
        low, high = values ** np.exp(width), values ** np.exp(-width)
        return np.where(inside, low, self.values), np.where(inside, high, self.values)

    def is_defined_at(self, months: float) -> bool:
        """Whether the curve is known at `months`: at least one patient was followed up to then, or the curve is 0."""
        return bool(months <= self.times[-1] or self.values[-1] == 0)

    def number_at_risk(self, months: FloatArray) -> IntArray:
        """Patients still under observation just before each of `months` (h,)."""
        padded = np.concatenate([self.at_risk, [0]])
        position = np.searchsorted(self.times, months, side="left")
        counts = np.asarray(padded[position], dtype=np.int64)
        if not self.entries.size:
            return counts
        ends = np.concatenate([self.times, [np.inf]])[position]  # those who enter until the next end are not counted
        between = _not_entered(self.entries, np.asarray(months)) - _not_entered(self.entries, ends)
        return np.asarray(counts - between, dtype=np.int64)


@dataclass(frozen=True)
class ObservationCurve:
    """A(t): probability of being under observation just before t, for the weights of patients who enter late.

    A(t-) = Y(t) / (n S(t-)), with Y(t) the patients at risk (entry < t <= time) and S the Kaplan-Meier curve with
    entries. An event at t has the weight 1 / A(t-): the weighted share of the events at t is S(t-) d_t / Y(t), the step
    of the Kaplan-Meier curve. Patients who died before their entry are in no table; others stand for them in this way.
    Without late entry A is the censoring curve G, since Y(t) = n S(t-) G(t-) (Kaplan-Meier with the ties of
    `censoring_curve`), and the weights are those of censoring alone. Entry must not depend on the later course (Wang
    1991, JASA 86:130-143).

    survival (k,) steps;  entries, ends (n,)  entry and end of each patient, rising, in months
    """

    survival: StepFunction
    entries: FloatArray
    ends: FloatArray

    @classmethod
    def fit(cls, event: BoolArray, time_months: FloatArray, entry_months: FloatArray) -> Self:
        """From follow-up: event, time_months, entry_months (n,)."""
        curve = KaplanMeier.fit(event, time_months, entry_months)
        return cls(curve, np.sort(entry_months), np.sort(time_months))

    def at(self, months: FloatArray | float) -> FloatArray:
        """A just after each of `months` (any shape): the patients with entry <= t < time; 0 where S is 0."""
        return self._share(months, "right", self.survival.at(months))

    def before(self, months: FloatArray | float) -> FloatArray:
        """A just before each of `months` (any shape): the patients with entry < t <= time; 0 where S is 0."""
        return self._share(months, "left", self.survival.before(months))

    def _share(self, months: FloatArray | float, side: Literal["left", "right"], survival: FloatArray) -> FloatArray:
        entered, ended = (np.searchsorted(values, months, side=side) for values in (self.entries, self.ends))
        expected = len(self.ends) * survival
        share = np.divide(entered - ended, expected, out=np.zeros(np.shape(expected)), where=expected > 0)
        return np.asarray(share, dtype=np.float64)


def median_follow_up(event: BoolArray, time_months: FloatArray, entry_months: FloatArray | None = None) -> float:
    """Median follow-up in months by the reverse Kaplan-Meier method; infinity where it is not reached.

    This is the Kaplan-Meier estimate with the roles of event and censoring exchanged: an event ends the observation of
    a patient, not their potential follow-up (Schemper and Smith 1996, Controlled Clin. Trials 17:343-346).
    The median of the raw times would be too short. event, time_months, entry_months (n,).
    """
    return KaplanMeier.fit(~event, time_months, entry_months).quantile(0.5)


def censoring_curve(event: BoolArray, time_months: FloatArray) -> StepFunction:
    """G(t) = P(not yet censored after t): Kaplan-Meier with the roles of event and censoring exchanged.

    Trap: at a tied time the events come first, so these patients are not at risk of being censored at that time. This
    is also the convention of scikit-survival's CensoringDistributionEstimator. event, time_months (n,).
    """
    times, deaths, censored = _counts(event, time_months)
    before = np.concatenate([[0], np.cumsum(deaths + censored)[:-1]])
    at_risk = len(event) - before - deaths
    ratio = np.divide(censored, at_risk, out=np.zeros(len(times)), where=censored > 0)
    return StepFunction(times, np.cumprod(1 - ratio))


def _not_entered(entries: FloatArray, months: FloatArray) -> IntArray:
    """Number of the entries (n,), rising, at each of `months` or later: these patients are not yet at risk there."""
    return np.asarray(len(entries) - np.searchsorted(entries, months, side="left"), dtype=np.int64)


def _counts(event: BoolArray, time_months: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Distinct times (k,) with the events (k,) and the censored patients (k,) at each."""
    times, position = np.unique(time_months, return_inverse=True)
    deaths = np.bincount(position, weights=event, minlength=len(times)).astype(np.float64)
    censored = np.bincount(position, weights=~event, minlength=len(times)).astype(np.float64)
    return times.astype(np.float64), deaths, censored
