"""Two models on their common patients: every metric of an evaluation with the paired difference and its interval."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mcti.cohort import left_truncation
from mcti.evaluation import calibration, comparison, scores
from mcti.evaluation.comparison import Draws, Interval, finite
from mcti.evaluation.paired_comparison import PairedComparison, ScoredModel
from mcti.evaluation.statistics import Statistic

BETTER = {
    "c_index": "higher",
    "c_within_subtype": "higher",
    "uno_c": "higher",
    "auc": "higher",
    "ibs_skill": "higher",
    "brier": "lower",
    "ibs": "lower",
    "ici": "lower",
    "slope": "nearer to 1",
    "oe": "nearer to 1",
    "intercept": "nearer to 0",
}
"""Key of metrics.json, without its horizon -> which values are better."""


@dataclass(frozen=True)
class MetricDifference:
    """One metric of models A and B; difference: B minus A, resampled together; p: two-sided, of the difference."""

    a: Interval
    b: Interval
    difference: Interval
    p: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON: null where a number is not defined."""
        intervals = {name: getattr(self, name).as_dict() for name in ("a", "b", "difference")}
        return {**intervals, "p": finite(self.p)}


def better(key: str) -> str:
    """Which values of a key of metrics.json are better: higher, lower, nearer to 1, nearer to 0."""
    return BETTER[key] if key in BETTER else BETTER[key.rpartition("_")[0]]


def differences(
    pair: PairedComparison, labels: Mapping[str, str], count: int, seed: int
) -> dict[str, MetricDifference]:
    """{key of metrics.json: both values and their difference}; pair.model is B, pair.comparator is A.

    labels  {patient_id: subtype}; without any, C within subtypes is left out
    count, seed  of the resamples of the common patients, which are the same for both models and all metrics
    """
    subtype = pair.patients["patient_id"].map(dict(labels)).fillna("").to_numpy(dtype=object)
    first, second = (_statistics(side, pair, subtype) for side in (pair.comparator, pair.model))
    if not labels:
        first.pop("c_within_subtype")
    draws = Draws.sample(pair.event, count, seed)
    return {key: _difference(first[key], second[key], draws) for key in first}


def _statistics(side: ScoredModel, pair: PairedComparison, subtype: np.ndarray) -> dict[str, Statistic]:
    return scores.model_statistics(side.outcomes, side.predictions, pair.horizons, subtype)


def _difference(a: Statistic, b: Statistic, draws: Draws) -> MetricDifference:
    matching = draws.matching(a)
    paired = comparison.paired(b, a, matching)
    return MetricDifference(
        comparison.interval(a, matching), comparison.interval(b, matching), paired.interval, paired.p
    )


def d_calibration(pair: PairedComparison) -> dict[str, float | None]:
    """{a, b: p of D-calibration, between 0 and 1}: a test, so there is no difference; empty without a horizon."""
    if not len(pair.horizons):
        return {}
    sides = {"a": pair.comparator, "b": pair.model}
    return {
        name: finite(calibration.d_calibration(side.outcomes, side.predictions.survival, pair.horizons).p)
        for name, side in sides.items()
    }


def changed_follow_up(a: pd.DataFrame, b: pd.DataFrame) -> int:
    """Number of common patients whose time or event differs between a and b.

    a, b    out-of-fold predictions with patient_id, time_months, event; one or more rows per patient
    """
    columns = ["patient_id", "time_months", "event", left_truncation.COLUMN]
    first, second = (
        table.assign(**{left_truncation.COLUMN: left_truncation.entries(table)})[columns].drop_duplicates("patient_id")
        for table in (a, b)
    )
    both = first.merge(second, on="patient_id")
    same = np.logical_and.reduce([both[f"{name}_x"] == both[f"{name}_y"] for name in columns[1:]])
    return int((~same).sum())
