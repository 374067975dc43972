"""The numbers of the figures as tables, for `dvc plots` and for other plotting tools."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from mcti.arrays import FloatArray
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.risk_groups import RiskGroups
from mcti.evaluation.roc import curve_at
from mcti.evaluation.scores import Scores


def kaplan_meier(groups: RiskGroups) -> pd.DataFrame:
    """Table group, months, survival, low, high, at_risk: one row per step of each curve, from month 0."""
    parts = []
    for name, curve, size in zip(groups.names, groups.curves, groups.sizes(), strict=True):
        if curve is not None:
            low, high = curve.band()
            rows = {
                "group": name,
                "months": np.concatenate([[0.0], curve.times]),
                "survival": np.concatenate([[1.0], curve.values]),
                "low": np.concatenate([[1.0], low]),
                "high": np.concatenate([[1.0], high]),
                "at_risk": np.concatenate([[size], curve.at_risk]),
            }
            parts.append(pd.DataFrame(rows))
    return pd.concat(parts, ignore_index=True)


def c_index_by_fold(scores: Scores) -> pd.DataFrame:
    """Columns model, fold, patients, events, c_index; the C is empty where it is not defined."""
    return pd.DataFrame(
        [{"model": name, **fold} for name, numbers in scores.models.items() for fold in numbers["folds"]]
    )


def over_time(scores: Scores) -> pd.DataFrame:
    """Table model, months, brier, auc."""
    return pd.DataFrame(
        [
            {
                "model": name,
                "months": float(months),
                "brier": numbers[f"brier_{months:g}"]["value"],
                "auc": numbers[f"auc_{months:g}"]["value"],
            }
            for name, numbers in scores.models.items()
            for months in scores.horizons
        ],
        columns=["model", "months", "brier", "auc"],
    )


def roc(tested: Outcomes, risk: FloatArray, horizons: FloatArray) -> pd.DataFrame:
    """Table months, threshold, false_positive_rate, true_positive_rate: the ROC curve of risk (m,) at each horizon."""
    columns = ["months", "threshold", "false_positive_rate", "true_positive_rate"]
    parts = []
    for months in horizons:
        false, true, threshold = curve_at(tested, risk, float(months))
        rows = {"threshold": threshold, "false_positive_rate": false, "true_positive_rate": true}
        parts.append(pd.DataFrame({"months": float(months), **rows}))
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def calibration(points: Mapping[float, Mapping[str, FloatArray]]) -> pd.DataFrame:
    """Table months, predicted, observed, low, high: one row per group."""
    parts = [pd.DataFrame({"months": months, **values}) for months, values in points.items()]
    columns = ["months", "predicted", "observed", "low", "high"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def decision(scores: Scores) -> pd.DataFrame:
    """Net benefit at the last horizon, one row per threshold: MCTI with interval, baseline, treat all, difference."""
    differences = [f"difference{end}" for end in ("", "_low", "_high")]
    columns = ["threshold", "mcti", "low", "high", "baseline", "all", *differences]
    rows = [
        row | {"difference": gap["value"], "difference_low": gap["low"], "difference_high": gap["high"]}
        for row in scores.decision.get("rows", [])
        for gap in [row["difference"]]
    ]
    return pd.DataFrame(rows, columns=columns)
