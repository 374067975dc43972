"""A Cox model with its baseline hazard: from coefficients (mcti/model/cox.py) to survival curves."""

from dataclasses import dataclass

import numpy as np

from mcti.arrays import BoolArray, FloatArray
from mcti.evaluation.curves import StepFunction
from mcti.model import cox


@dataclass(frozen=True)
class CoxModel:
    """Linear risk and baseline. coefficients (p,);  hazard: cumulative baseline hazard as steps from 0 (Breslow)."""

    coefficients: FloatArray
    hazard_times: FloatArray
    hazard: FloatArray

    def risk(self, design: FloatArray) -> FloatArray:
        """(n, p) -> (n,) log hazard ratio against the average training patient; higher = earlier event."""
        return design @ self.coefficients

    def survival(self, design: FloatArray, months: FloatArray) -> FloatArray:
        """(n, p), (h,) -> (n, h) S(t) = exp(-H0(t) exp(risk)); beyond the training follow-up the last value holds."""
        return breslow_survival(self.risk(design), self.hazard_times, self.hazard, months)


def fit_ridge(design: FloatArray, event: BoolArray, time_months: FloatArray, penalty: float) -> CoxModel:
    """`cox.coefficients` of a training part, with the baseline hazard at its patients' own risks."""
    found = cox.coefficients(design, event, time_months, penalty)
    return CoxModel(found, *breslow_hazard(design @ found, event, time_months))


def breslow_hazard(risk: FloatArray, event: BoolArray, time_months: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Breslow's cumulative baseline hazard for given log hazard ratios: times (k,), H0 (k,) (Breslow 1974)."""
    times, position = np.unique(time_months, return_inverse=True)
    deaths = np.bincount(position, weights=event, minlength=len(times))
    weight = np.bincount(position, weights=np.exp(risk), minlength=len(times))
    at_risk = np.cumsum(weight[::-1])[::-1]
    return times, np.cumsum(deaths / at_risk)


def breslow_survival(risk: FloatArray, times: FloatArray, hazard: FloatArray, months: FloatArray) -> FloatArray:
    """(n,) log hazard ratios, steps of H0, (h,) months -> (n, h) survival."""
    baseline = StepFunction(times, np.exp(-hazard)).at(months)
    ratio = np.exp(np.minimum(risk, 500.0))  # beyond, exp overflows and S is 0 or 1 all the same
    return np.asarray(baseline[None, :] ** ratio[:, None], dtype=np.float64)
