"""Restricted mean survival time (RMST): event-free months up to a horizon, compared between risk groups."""

from dataclasses import dataclass

import numpy as np

from mcti.arrays import BoolArray, FloatArray, IntArray
from mcti.evaluation.outcomes import Outcomes


@dataclass(frozen=True)
class RmstDifference:
    """Mean event-free months up to the horizon, first group minus second. Above 0: the first group is better.

    RMST = integral of the Kaplan-Meier curve from 0 to the horizon (Royston and Parmar 2013, BMC Med. Res. Methodol.
    13:152). Unlike a hazard ratio it has a unit and does not need proportional hazards.

    Trap: the horizon must not be beyond the follow-up of either group (`common_follow_up`), because the curve would be
    extrapolated.

    first, second   patients of each group, as rows of the cohort table;  horizon  months
    entry_months    (n,) entry under observation, None: the origin; a patient is at risk from it on
    """

    first: IntArray
    second: IntArray
    event: BoolArray
    time_months: FloatArray
    horizon: float
    entry_months: FloatArray | None = None

    def __call__(self, draws: FloatArray) -> FloatArray:
        """draws (count, n) -> (count,) months; NaN where a group is empty."""
        return self._mean(self.first, draws) - self._mean(self.second, draws)

    def _mean(self, rows: IntArray, draws: FloatArray) -> FloatArray:
        """(count,) restricted mean of the patients `rows` under each draw: a weighted Kaplan-Meier estimate."""
        # Events first at a tied time, as the numbers at risk require; the product over single events equals the product
        # over the tied time.
        rows = rows[np.lexsort((~self.event[rows], self.time_months[rows]))]
        weights, time = draws[:, rows], np.minimum(self.time_months[rows], self.horizon)
        at_risk = np.cumsum(weights[:, ::-1], axis=1)[:, ::-1]
        if self.entry_months is not None:
            at_risk = at_risk - self._not_entered(rows, weights)
        died = weights * (self.event[rows] & (self.time_months[rows] <= self.horizon))
        ratio = np.divide(died, at_risk, out=np.zeros_like(died), where=(died > 0) & (at_risk > 0))
        curve = np.concatenate([np.ones((len(draws), 1)), np.cumprod(1 - ratio, axis=1)], axis=1)
        widths = np.diff(np.concatenate([[0.0], time, [self.horizon]]))
        return np.where(weights.sum(axis=1) > 0, curve @ widths, np.nan)

    def _not_entered(self, rows: IntArray, weights: FloatArray) -> FloatArray:
        """(count, r) weight of the patients who enter at the time of each row or later."""
        assert self.entry_months is not None
        entry = self.entry_months[rows]
        order = np.argsort(entry, kind="stable")
        padded = np.concatenate([weights[:, order], np.zeros((len(weights), 1))], axis=1)
        later = np.cumsum(padded[:, ::-1], axis=1)[:, ::-1]
        return np.asarray(later[:, np.searchsorted(entry[order], self.time_months[rows], side="left")])


def common_follow_up(outcomes: Outcomes, group: IntArray) -> float:
    """Months up to which both the lowest and the highest group were followed: the earlier of their last times.

    A Kaplan-Meier curve is not defined beyond its last time unless it is 0 there. group (m,) of every test row.
    """
    time = outcomes.time_months[outcomes.patient]
    return float(min(time[group == group.min()].max(), time[group == group.max()].max()))


def rmst_difference(outcomes: Outcomes, group: IntArray, horizon: float) -> RmstDifference:
    """Lowest risk group minus highest; group (m,) of every test row, horizon in months."""
    first, second = outcomes.patient[group == group.min()], outcomes.patient[group == group.max()]
    return RmstDifference(first, second, outcomes.event, outcomes.time_months, horizon, outcomes.entry_months)
