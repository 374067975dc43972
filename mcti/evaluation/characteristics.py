"""Table 1: characteristics of the evaluated patients, overall, by risk group and by test fold."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from mcti.arrays import FloatArray, IntArray
from mcti.cohort import competing, left_truncation
from mcti.evaluation.curves import median_follow_up
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.risk_groups import RiskGroups

MAX_LISTED_VALUES = 12
"""A text column with more distinct values is summarised by their number and not listed value by value."""
_NOT_LISTED = {"patient_id", "cohort", "site", "age", "is_female", "subtype", "time_months", "event", "competing",
               "entry_months"}  # fmt: skip
NOT_REACHED = "not reached"


def table(patients: pd.DataFrame, outcomes: Outcomes, grouped: RiskGroups) -> pd.DataFrame:
    """Table of text cells: characteristic, all, one column per risk group, one per fold.

    patients: the cohort table, rows as in `outcomes`. The column `all` counts each evaluated patient once; with
    repeated folds a patient is in several folds and may be in several risk groups.
    """
    columns = dict(_columns(outcomes, grouped))
    described = {name: dict(_describe(patients.iloc[rows], patients, outcomes)) for name, rows in columns.items()}
    names = list(described["all"])
    return pd.DataFrame(
        {"characteristic": names} | {name: [cells[row] for row in names] for name, cells in described.items()}
    )


def months(value: float) -> str:
    """A median in months with one decimal, or `not reached` where it is infinite."""
    return f"{value:.1f}" if np.isfinite(value) else NOT_REACHED


def _columns(outcomes: Outcomes, grouped: RiskGroups) -> Iterator[tuple[str, IntArray]]:
    """Name of each column and the rows of the cohort table that it describes."""
    yield "all", outcomes.tested
    for number, name in enumerate(grouped.names):
        yield f"{name} risk", np.unique(outcomes.patient[grouped.group == number])
    for fold in outcomes.folds:
        yield f"fold {fold.number}", fold.patients


def _describe(rows: pd.DataFrame, patients: pd.DataFrame, outcomes: Outcomes) -> Iterator[tuple[str, str]]:
    """(characteristic, cell) for the patients `rows`; the same characteristics for every subset of the patients."""
    tested = patients.iloc[outcomes.tested]
    event = rows["event"].to_numpy(dtype=np.int64) == 1
    time = rows["time_months"].to_numpy(dtype=np.float64)
    had_competing = competing.flags(rows)
    yield "patients", str(len(rows))
    yield "events, n (%)", _share(int(event.sum()), len(rows))
    entry = left_truncation.entries(rows) if left_truncation.has_entries(rows) else None
    if "competing" in rows:
        yield "competing events, n (%)", _share(int(had_competing.sum()), len(rows))
    follow_up = months(median_follow_up(event | had_competing, time, entry)) if len(rows) else "–"
    yield "median follow-up, months (reverse Kaplan-Meier)", follow_up
    if entry is not None:
        yield "entry after the origin, n (%)", _share(int((entry > 0).sum()), len(rows))
    yield "age, median [quartiles]", _quartiles(rows["age"])
    yield from _sex(rows)
    yield from _categories(rows["subtype"], tested["subtype"], "subtype")
    yield "sites", str(rows["site"].nunique())
    for name in (str(column) for column in patients if column not in _NOT_LISTED):
        if pd.api.types.is_numeric_dtype(patients[name]):
            yield f"{name}, median [quartiles]", _quartiles(rows[name])
        else:
            yield from _categories(rows[name], tested[name], name)


def _sex(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    known = rows["is_female"].dropna()
    missing = len(rows) - len(known)
    yield (
        "female, n (%)",
        _share(int(known.astype(int).sum()), len(known)) + (f", {missing} missing" if missing else ""),
    )


def _categories(column: pd.Series, tested: pd.Series, name: str) -> Iterator[tuple[str, str]]:
    """One row per value, with its share of the known values, and the number of missing values where there are any."""
    values = sorted(tested.dropna().astype(str).unique())
    known = column.dropna().astype(str)
    if len(values) > MAX_LISTED_VALUES:
        yield f"{name}, different values", str(known.nunique())
    else:
        for value in values:
            yield f"{name} {value}, n (%)", _share(int((known == value).sum()), len(known))
    if tested.isna().any():
        yield f"{name} missing, n", str(len(column) - len(known))


def _quartiles(column: pd.Series) -> str:
    """Median with quartiles, for example `63 [55, 71], 4 missing`."""
    values: FloatArray = column.to_numpy(dtype=np.float64, na_value=np.nan)
    known = values[np.isfinite(values)]
    missing = len(values) - len(known)
    if not len(known):
        return "–" if not missing else f"{missing} missing"
    low, median, high = np.quantile(known, [0.25, 0.5, 0.75])
    return f"{median:.4g} [{low:.4g}, {high:.4g}]" + (f", {missing} missing" if missing else "")


def _share(count: int, total: int) -> str:
    return f"{count} ({100 * count / total:.1f})" if total else f"{count}"
