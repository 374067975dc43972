"""What acting on a prediction would gain: net benefit over thresholds, and months of life between risk groups."""

from dataclasses import dataclass

import numpy as np

from mcti.arrays import BoolArray, FloatArray, IntArray
from mcti.evaluation.calibration import WeightedStatus, weighted_status
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.statistics import safe_ratio


@dataclass(frozen=True)
class NetBenefit:
    """True positives minus weighed false positives, per patient, when all with risk >= threshold are treated.

    = P(treated and event) - P(treated and no event) * threshold / (1 - threshold)  (Vickers and Elkin 2006, Med.
    Decis. Making 26:565-574; censoring by inverse weights). Higher is better; 0 is treating nobody. A model is of use
    at a threshold where it lies above treating nobody *and* above treating everybody.
    """

    known: WeightedStatus
    treated: BoolArray
    threshold: float

    def __call__(self, draws: FloatArray) -> FloatArray:
        """draws (count, n) -> (count,)."""
        counts = draws[:, self.known.patient]
        odds = self.threshold / (1 - self.threshold)
        gain = np.where(self.known.had == 1, 1.0, -odds) * self.known.weight * self.treated
        return safe_ratio(counts @ gain, counts.sum(axis=1))


def net_benefit(outcomes: Outcomes, survival: FloatArray, months: float, threshold: float) -> NetBenefit:
    """Net benefit of treating those with 1 - S(months) >= threshold; survival (m,). S = 0: treating everybody."""
    return NetBenefit(weighted_status(outcomes, months), 1 - survival >= threshold, threshold)


@dataclass(frozen=True)
class RmstDifference:
    """Months of event-free life up to a horizon that the first group has more than the second, on average.

    RMST = integral of the Kaplan-Meier curve from 0 to the horizon (Royston and Parmar 2013, BMC Med. Res. Methodol.
    13:152). Unlike a hazard ratio it needs no proportional hazards and has a unit. rows of each group are patients.
    The horizon must not lie beyond the follow-up of either group (`common_follow_up`): the curve would be extrapolated.
    """

    first: IntArray
    second: IntArray
    event: BoolArray
    time_months: FloatArray
    horizon: float

    def __call__(self, draws: FloatArray) -> FloatArray:
        """draws (count, n) -> (count,); NaN where a group is empty."""
        return self._mean(self.first, draws) - self._mean(self.second, draws)

    def _mean(self, rows: IntArray, draws: FloatArray) -> FloatArray:
        """(count,) restricted mean of the patients `rows` under each draw: Kaplan-Meier with weights."""
        # Events first at a tied time, as at-risk counts ask; the product over single events is that over the tie.
        rows = rows[np.lexsort((~self.event[rows], self.time_months[rows]))]
        weights, time = draws[:, rows], np.minimum(self.time_months[rows], self.horizon)
        at_risk = np.cumsum(weights[:, ::-1], axis=1)[:, ::-1]
        died = weights * (self.event[rows] & (self.time_months[rows] <= self.horizon))
        ratio = np.divide(died, at_risk, out=np.zeros_like(died), where=at_risk > 0)
        curve = np.concatenate([np.ones((len(draws), 1)), np.cumprod(1 - ratio, axis=1)], axis=1)
        widths = np.diff(np.concatenate([[0.0], time, [self.horizon]]))
        mean = curve @ widths
        return np.where(weights.sum(axis=1) > 0, mean, np.nan)


def common_follow_up(outcomes: Outcomes, group: IntArray) -> float:
    """Months up to which both extreme groups were followed: the earlier of their last follow-up times.

    A Kaplan-Meier curve is not defined beyond its last time unless it is 0 there; a restricted mean up to a later
    month would take its last height for granted. group (m,) of every test row.
    """
    time = outcomes.time_months[outcomes.patient]
    return float(min(time[group == group.min()].max(), time[group == group.max()].max()))


def rmst_difference(outcomes: Outcomes, group: IntArray, horizon: float) -> RmstDifference:
    """Lowest risk group minus highest; group (m,) of every test row, horizon in months."""
    first, second = outcomes.patient[group == group.min()], outcomes.patient[group == group.max()]
    return RmstDifference(first, second, outcomes.event, outcomes.time_months, horizon)
