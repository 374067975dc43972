"""Case mix: how far the patients of two cohorts differ, from means and covariances alone.

`mcti evaluate` stores the moments of the development patients (`CaseMix`), so that an external validation compares its
patients with them without any value of a single patient.

The membership model separates the two cohorts by the linear predictor and the covariates (Debray et al. 2015, J. Clin.
Epidemiol. 68:279-289). With moments alone it is the linear discriminant, whose coefficients are those of the logistic
membership model for normal variables of equal covariance (Efron 1975, JASA 70:892-898).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from mcti.arrays import FloatArray
from mcti.cohort import tables
from mcti.errors import DataError
from mcti.evaluation.comparison import CONFIDENCE, Interval

FILE = "case_mix.json"
"""Name of the file in the folder of an evaluation."""
LINEAR_PREDICTOR = "linear predictor"
MAX_MISSING_SHARE = 0.2
"""A variable that more patients lack is left out: the moments are those of the patients with all values."""
S_LIMITS = (1e-9, 1 - 1e-9)
"""S(t) is limited to this range, because 0 and 1 have no complementary log-log."""


def linear_predictor(survival: FloatArray) -> FloatArray:
    """log(-log S(t)): the log hazard ratio of a proportional hazards model plus a constant; any shape, no unit."""
    return np.asarray(np.log(-np.log(np.clip(survival, *S_LIMITS))), dtype=np.float64)


def variables(patients: pd.DataFrame, survival: FloatArray) -> pd.DataFrame:
    """Linear predictor, age, sex and numeric covariates of the patients; survival (n,) is S at one horizon.

    Columns that are not numeric, and those that too many patients lack, are left out.
    """
    columns = {LINEAR_PREDICTOR: linear_predictor(survival)}
    for name, numeric in tables.covariate_columns(patients).items():
        if numeric:
            values = patients[name].to_numpy(dtype=np.float64, na_value=np.nan)
            if np.isfinite(values).mean() >= 1 - MAX_MISSING_SHARE:
                columns[name] = values
    return pd.DataFrame(columns)


@dataclass(frozen=True)
class CaseMix:
    """Moments of the patients with all values.

    months  of the linear predictor;  patients  n
    variables (p,);  mean (p,);  covariance (p, p) with n - 1, each in the unit of the variable
    """

    months: float
    patients: int
    variables: tuple[str, ...]
    mean: FloatArray
    covariance: FloatArray

    @classmethod
    def fit(cls, table: pd.DataFrame, months: float) -> Self:
        """The moments of a table of `variables` (n, p), their linear predictor at `months`."""
        values = table.to_numpy(dtype=np.float64)
        values = values[np.isfinite(values).all(axis=1)]
        covariance = np.atleast_2d(np.cov(values, rowvar=False)) if len(values) > 1 else np.zeros((table.shape[1],) * 2)
        mean = values.mean(axis=0) if len(values) else np.zeros(table.shape[1])
        return cls(months, len(values), tuple(map(str, table.columns)), mean, covariance)

    def only(self, names: Sequence[str]) -> "CaseMix":
        """The same for these variables, in this order."""
        at = [self.variables.index(name) for name in names]
        return CaseMix(self.months, self.patients, tuple(names), self.mean[at], self.covariance[np.ix_(at, at)])

    def sd(self, name: str) -> float:
        """Standard deviation of a variable, in its unit."""
        at = self.variables.index(name)
        return math.sqrt(self.covariance[at, at])

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "months": self.months,
            "patients": self.patients,
            "variables": list(self.variables),
            "mean": self.mean.tolist(),
            "covariance": self.covariance.tolist(),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], where: str) -> "CaseMix":
        """The inverse of `as_dict`.

        Raises DataError when a key is missing or malformed.
        """
        try:
            names = tuple(map(str, document["variables"]))
            mean = np.array(document["mean"], dtype=np.float64).reshape(len(names))
            covariance = np.array(document["covariance"], dtype=np.float64).reshape(len(names), len(names))
            return cls(float(document["months"]), int(document["patients"]), names, mean, covariance)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"not the moments of a cohort ({error})", where, "run `mcti evaluate` again") from error


@dataclass(frozen=True)
class Membership:
    """How well the membership model separates two cohorts: AUC 0.5 for equal cohorts, 1 for disjoint ones.

    variables  of the model;  auc  with its interval
    """

    variables: tuple[str, ...]
    auc: Interval


def membership(development: CaseMix, validation: CaseMix, names: Sequence[str]) -> Membership:
    """The membership model of the variables `names` (p,) that are not constant in both cohorts; AUC 0.5 to 1.

    D² is the squared Mahalanobis distance of the means with the pooled covariance. Its expectation exceeds the true
    value Δ² by the number of variables, so that AUC = Φ(Δ / √2) takes the unbiased estimate of Δ², limited to 0. The
    interval inverts the noncentral F distribution of D² (Reiser 2001, Commun. Stat. Simul. Comput. 30:37-45): it is
    exact for normal variables of equal covariance. A difference in spread alone does not show in this AUC.

    NaN without such a variable, or with too few patients.
    """
    used = [name for name in names if development.sd(name) > 0 or validation.sd(name) > 0]
    p, first, second = len(used), development.patients, validation.patients
    degrees = first + second - 2
    if not p or degrees - p - 1 <= 0 or min(first, second) < 2:
        return Membership(tuple(used), Interval(math.nan, math.nan, math.nan))
    one, other = development.only(used), validation.only(used)
    pooled = ((first - 1) * one.covariance + (second - 1) * other.covariance) / degrees
    gap = other.mean - one.mean
    distance = float(gap @ np.linalg.lstsq(pooled, gap, rcond=None)[0])
    size = first * second / (first + second)
    unbiased = max((degrees - p - 1) / degrees * distance - p / size, 0.0)
    value = (degrees - p + 1) / (p * degrees) * size * distance
    low, high = _noncentrality(value, p, degrees - p + 1)
    return Membership(tuple(used), Interval(_auc(unbiased), _auc(low / size), _auc(high / size)))


def _auc(squared_distance: float) -> float:
    from scipy import stats

    return float(stats.norm.cdf(math.sqrt(squared_distance / 2)))


def _noncentrality(value: float, p: int, degrees: int) -> tuple[float, float]:
    """Two-sided interval of the noncentrality of F(p, degrees) whose observed value is `value`."""
    from scipy import optimize, stats

    def solve(level: float) -> float:
        def excess(noncentrality: float) -> float:
            return float(stats.ncf.cdf(value, p, degrees, noncentrality)) - level

        if float(stats.f.cdf(value, p, degrees)) <= level:
            return 0.0
        high = 10.0 + 2 * p * value
        while excess(high) > 0:
            high *= 2
        return float(optimize.brentq(excess, 1e-12, high, xtol=1e-9))

    tail = (1 - CONFIDENCE) / 2
    return solve(1 - tail), solve(tail)


def differences(development: CaseMix, validation: CaseMix) -> list[dict[str, Any]]:
    """One row per common variable: mean and sd of both cohorts, and the difference of the means in pooled sd."""
    rows = []
    for name in common(development, validation):
        one, other = development.only([name]), validation.only([name])
        spread = math.sqrt((one.sd(name) ** 2 + other.sd(name) ** 2) / 2)
        gap = float(other.mean[0] - one.mean[0])
        rows.append(
            {
                "variable": name,
                "development": {"mean": float(one.mean[0]), "sd": one.sd(name)},
                "validation": {"mean": float(other.mean[0]), "sd": other.sd(name)},
                "standardised_difference": gap / spread if spread else None,
            }
        )
    return rows


def common(development: CaseMix, validation: CaseMix) -> list[str]:
    """The variables of both cohorts, in the order of the development."""
    return [name for name in development.variables if name in validation.variables]
