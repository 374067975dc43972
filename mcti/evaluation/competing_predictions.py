"""Predicted cumulative incidence: cause-specific curves of the event with a fitted hazard of the competing event.

The hazard of the competing event is fitted in the training part of each fold. Shapes: n patients, h horizons.
"""

from dataclasses import replace

import numpy as np

from mcti.arrays import BoolArray, FloatArray
from mcti.evaluation.baselines import Baseline, KaplanMeierBaseline, RidgeCox
from mcti.evaluation.competing import CompetingOutcomes
from mcti.evaluation.design_matrix import Clinical, Inputs
from mcti.evaluation.outcomes import Fold
from mcti.model.competing_hazard import cumulative_incidence

MIN_COVARIATE_EVENTS = 10
"""With fewer competing events in a training part their hazard is one curve for all patients, without covariates."""


def between_horizons(survival: FloatArray, horizons: FloatArray, months: FloatArray) -> FloatArray:
    """S1 (n, g) at `months` (g,), with a constant hazard between the horizons (h,) at which it is known (n, h).

    Beyond the last horizon the hazard of the last interval is continued.
    """
    grid = np.concatenate([[0.0], horizons])
    logs = np.concatenate([np.zeros((len(survival), 1)), np.log(np.clip(survival, 1e-12, 1))], axis=1)
    right = np.clip(np.searchsorted(grid, months, side="left"), 1, len(horizons))
    share = (months - grid[right - 1]) / (grid[right] - grid[right - 1])
    return np.asarray(np.exp(logs[:, right - 1] * (1 - share) + logs[:, right] * share), dtype=np.float64)


def competing_inputs(inputs: Inputs, competing: BoolArray) -> Inputs:
    """The same patients with the competing event (n,) in place of the event."""
    return replace(inputs, patients=inputs.patients.assign(event=competing.astype(np.int64)))


def competing_model(train: Inputs, seed: int) -> Baseline:
    """The hazard of the competing event: ridge Cox regression on the clinical columns, else one curve for all.

    train   a training part whose event is the competing one (`competing_inputs`)
    """
    if int(train.event.sum()) < MIN_COVARIATE_EVENTS:
        return KaplanMeierBaseline().fit(train, seed)
    return RidgeCox(Clinical).fit(train, seed)


class CompetingHazards:
    """The hazard of the competing event of each fold, with the curves of its test rows.

    The grid of a fold has the times of the competing events of its training part, and the horizons. The curves of the
    competing event are constant between them.
    """

    def __init__(self, tested: CompetingOutcomes, inputs: Inputs, horizons: FloatArray, seed: int) -> None:
        self._tested, self._inputs, self._horizons, self._seed = tested, inputs, horizons, seed
        by_competing = competing_inputs(inputs, tested.competing)
        self._grids, self._survival = [], []
        for fold in tested.by_event.folds:
            model = competing_model(by_competing.rows(fold.train_patients), seed)
            self._grids.append(self._grid(fold))
            self._survival.append(model.predict(by_competing.rows(fold.patients), self._grids[-1])[1])

    def incidence(self, survival: FloatArray) -> FloatArray:
        """F1 (m, h) at the horizons from cause-specific curves (m, h) at the same horizons."""
        parts = []
        for (_, part), grid, competing in zip(self._tested.by_event.parts(), self._grids, self._survival, strict=True):
            curves = between_horizons(survival[part], self._horizons, grid)
            parts.append(cumulative_incidence(curves, competing)[:, np.searchsorted(grid, self._horizons)])
        return np.concatenate(parts)

    def cause_specific_cox(self) -> FloatArray:
        """F1 (m, h) of two cause-specific Cox regressions on the clinical columns, one for each event."""
        parts = []
        for fold, grid, competing in zip(self._tested.by_event.folds, self._grids, self._survival, strict=True):
            steps = np.union1d(grid, fold.train_time[fold.train_event])
            steps = steps[steps <= self._horizons[-1]]
            model = RidgeCox(Clinical).fit(self._inputs.rows(fold.train_patients), self._seed)
            _, curves = model.predict(self._inputs.rows(fold.patients), steps)
            with_start = np.concatenate([np.ones((len(competing), 1)), competing], axis=1)
            held = with_start[:, np.searchsorted(grid, steps, side="right")]
            parts.append(cumulative_incidence(curves, held)[:, np.searchsorted(steps, self._horizons)])
        return np.concatenate(parts)

    def _grid(self, fold: Fold) -> FloatArray:
        times = fold.train_time[self._tested.competing[fold.train_patients]]
        return np.union1d(times[times <= self._horizons[-1]], self._horizons)
