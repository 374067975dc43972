"""Cumulative hazard of the competing event, and the cumulative incidence of the event that follows from it.

A model of a cohort with competing events has one such curve for all patients, of its training part. Shapes: n rows, g
times of a grid, k steps, h horizons.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcti.arrays import BoolArray, FloatArray

GRID_STEPS = 100
"""Equal steps up to the longest follow-up, to which the times are rounded: model.json has no time of a patient."""


def cumulative_incidence(survival: FloatArray, competing_survival: FloatArray) -> FloatArray:
    """F1 (n, g) at the times of a grid, sum over its steps u <= t of S2(u-) (S1(u-) - S1(u)).

    S1 is the cause-specific curve of the event (n, g), S2 that of the competing event (n, g), both 1 before the grid.
    A step of S1 is S1(u-) times the hazard of the event, so each term is the probability of being without either event
    before u times the hazard (Benichou and Gail 1990, Biometrics 46:813-826). Within a step the event comes first.
    """
    start = np.ones((len(survival), 1))
    falls = -np.diff(np.concatenate([start, survival], axis=1), axis=1)
    before = np.concatenate([start, competing_survival[:, :-1]], axis=1)
    return np.asarray(np.cumsum(before * falls, axis=1), dtype=np.float64)


@dataclass(frozen=True)
class CompetingHazard:
    """Nelson-Aalen estimate of the cumulative cause-specific hazard of the competing event, the same for all patients.

    months      (k,) rising times of the steps; empty: no competing event in the training part
    cumulative  (k,) cumulative hazard from that time on, no unit; constant after the last step
    """

    months: tuple[float, ...]
    cumulative: tuple[float, ...]

    @classmethod
    def fit(cls, competing: BoolArray, time_months: FloatArray, entry_months: FloatArray) -> "CompetingHazard":
        """The sum over times of competing events / patients at risk, where the event of interest censors.

        competing, time_months, entry_months (n,); a patient is at risk in (entry, time]
        """
        times, events = np.unique(time_months[competing], return_counts=True)
        entered, ended = (np.searchsorted(np.sort(one), times, side="left") for one in (entry_months, time_months))
        width = float(time_months.max()) / GRID_STEPS
        # The hazard is that of the exact times. To the nearest step: on average no event becomes earlier or later.
        steps, position = np.unique(np.clip(np.rint(times / width), 1, GRID_STEPS), return_inverse=True)
        sums = np.bincount(position, events / (entered - ended), minlength=len(steps)).cumsum()
        return cls(tuple(map(float, steps * width)), tuple(map(float, sums)))

    def incidence(self, survival: FloatArray, at_horizons: FloatArray) -> FloatArray:
        """F1 (h,) of one patient: the probability of the event by each horizon, where a competing one may come first.

        survival (k,) S1 at `months`;  at_horizons (h,) S1 at the horizons, in any order
        """
        # The grid of a horizon ends with it: a curve never rises, so that its later steps have no fall.
        rows = np.maximum(survival, at_horizons[:, None])
        curves = np.concatenate([rows, at_horizons[:, None]], axis=1)
        without_competing = np.exp(-np.array([*self.cumulative, *self.cumulative[-1:]]))
        competing = np.broadcast_to(without_competing if self.months else 1.0, curves.shape)
        return cumulative_incidence(curves, competing)[:, -1]

    def spec(self) -> dict[str, Any]:
        """As JSON values."""
        return {"months": list(self.months), "cumulative": list(self.cumulative)}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "CompetingHazard":
        """The inverse of `spec`.

        Raises ValueError when the lengths differ or an order is not rising
        """
        months, cumulative = (tuple(float(value) for value in spec[name]) for name in ("months", "cumulative"))
        values = np.array([(0.0, *months), (0.0, *cumulative)])
        if not bool((np.diff(values) > 0).all()):
            raise ValueError("the steps of the competing hazard do not rise")
        return cls(months, cumulative)
