"""Table 1: the characteristics of the evaluated patients, in all, by risk group and by test fold."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from mcti.arrays import FloatArray, IntArray
from mcti.evaluation.curves import median_follow_up
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.risk_groups import RiskGroups

MOST_WORDS = 12
"""A column of text with more different words than this is counted, not listed word by word."""
_NOT_LISTED = {"patient_id", "cohort", "site", "age", "is_female", "subtype", "time_months", "event"}
NOT_REACHED = "not reached"


def table(patients: pd.DataFrame, outcomes: Outcomes, grouped: RiskGroups) -> pd.DataFrame:
    """characteristic, all, one column a risk group, one a fold: cells of text.

    patients: the cohort's table, rows as `outcomes` counts them. `all` counts each evaluated patient once; with
    repeated folds a patient stands in several folds, and may stand in several risk groups.
    """
    columns = dict(_columns(outcomes, grouped))
    described = {name: dict(_describe(patients.iloc[rows], patients, outcomes)) for name, rows in columns.items()}
    names = list(described["all"])
    return pd.DataFrame(
        {"characteristic": names} | {name: [cells[row] for row in names] for name, cells in described.items()}
    )


def months(value: float) -> str:
    """A median in months, or that it is not reached."""
    return f"{value:.1f}" if np.isfinite(value) else NOT_REACHED


def _columns(outcomes: Outcomes, grouped: RiskGroups) -> Iterator[tuple[str, IntArray]]:
    """Name and the cohort's rows of each column."""
    yield "all", outcomes.tested
    for number, name in enumerate(grouped.names):
        yield f"{name} risk", np.unique(outcomes.patient[grouped.group == number])
    for fold in outcomes.folds:
        yield f"fold {fold.number}", fold.patients


def _describe(rows: pd.DataFrame, everyone: pd.DataFrame, outcomes: Outcomes) -> Iterator[tuple[str, str]]:
    """Rows of the table for some patients; which rows there are depends on the evaluated patients as a whole."""
    tested = everyone.iloc[outcomes.tested]
    event = rows["event"].to_numpy(dtype=np.int64) == 1
    time = rows["time_months"].to_numpy(dtype=np.float64)
    yield "patients", str(len(rows))
    yield "events, n (%)", _share(int(event.sum()), len(rows))
    yield "median follow-up, months (reverse Kaplan-Meier)", months(median_follow_up(event, time)) if len(rows) else "–"
    yield "age, median [quartiles]", _quartiles(rows["age"])
    yield from _sex(rows)
    yield from _words(rows["subtype"], tested["subtype"], "subtype")
    yield "sites", str(rows["site"].nunique())
    for name in (str(column) for column in everyone if column not in _NOT_LISTED):
        if pd.api.types.is_numeric_dtype(everyone[name]):
            yield f"{name}, median [quartiles]", _quartiles(rows[name])
        else:
            yield from _words(rows[name], tested[name], name)


def _sex(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    known = rows["is_female"].dropna()
    missing = len(rows) - len(known)
    yield (
        "female, n (%)",
        _share(int(known.astype(int).sum()), len(known)) + (f", {missing} missing" if missing else ""),
    )


def _words(column: pd.Series, everyone: pd.Series, what: str) -> Iterator[tuple[str, str]]:
    words = sorted(everyone.dropna().astype(str).unique())
    if len(words) > MOST_WORDS:
        yield f"{what}, different values", str(column.nunique())
        return
    for word in words:
        yield f"{what} {word}, n (%)", _share(int((column.astype(str) == word).sum()), len(column))


def _quartiles(column: pd.Series) -> str:
    """`63 [55, 71], 4 missing`."""
    values: FloatArray = column.to_numpy(dtype=np.float64, na_value=np.nan)
    known = values[np.isfinite(values)]
    missing = len(values) - len(known)
    if not len(known):
        return "–" if not missing else f"{missing} missing"
    low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
    return f"{middle:.4g} [{low:.4g}, {high:.4g}]" + (f", {missing} missing" if missing else "")


def _share(count: int, total: int) -> str:
    return f"{count} ({100 * count / total:.1f})" if total else f"{count}"
