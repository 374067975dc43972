"""The entry of patients under observation (left truncation): column `entry_months` of a cohort, optional.

A patient is at risk in (entry, time], as in `Surv(start, stop, event)` of R: one who enters at the time of an event is
not yet at risk.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mcti.arrays import FloatArray
from mcti.errors import DataError

COLUMN = "entry_months"
MIN_RISK_SET = 5
"""With fewer patients at risk at an early event, one patient changes the whole curve after it."""


def has_entries(patients: pd.DataFrame) -> bool:
    """Whether the cohort states when its patients came under observation."""
    return COLUMN in patients


def entries(patients: pd.DataFrame) -> FloatArray:
    """Entries (n,) in months from the origin; 0 for every patient of a cohort without the column."""
    if not has_entries(patients):
        return np.zeros(len(patients))
    return patients[COLUMN].to_numpy(dtype=np.float64)


def late_entries(patients: pd.DataFrame) -> tuple[int, float]:
    """Number of patients who entered after the origin, and the median of these entries in months (NaN: none)."""
    late = entries(patients)
    late = late[late > 0]
    return len(late), float(np.median(late)) if len(late) else float("nan")


def counts(patients: pd.DataFrame) -> dict[str, int]:
    """{late_entries: number} for `cohort.json`; empty for a cohort without the column."""
    return {"late_entries": late_entries(patients)[0]} if has_entries(patients) else {}


def median_late_entry(patients: pd.DataFrame) -> float | None:
    """Median of the entries after the origin in months; None: there are none."""
    late, median = late_entries(patients)
    return round(median, 9) if late else None


def smallest_early_risk_set(patients: pd.DataFrame) -> float:
    """Patients at risk (a count) at the event with the fewest of them, among the events before the largest risk set.

    Later risk sets are small in every cohort. NaN where no event is before the largest risk set.
    """
    time = patients["time_months"].to_numpy(dtype=np.float64)
    sizes = _risk_sets(patients, np.unique(time[patients["event"].to_numpy() == 1]))
    early = sizes[: int(np.argmax(sizes))] if len(sizes) else sizes
    return float(early.min()) if len(early) else float("nan")


def _risk_sets(patients: pd.DataFrame, months: FloatArray) -> FloatArray:
    """Number of patients (t,) at risk just before each of these times."""
    time = np.sort(patients["time_months"].to_numpy(dtype=np.float64))
    entered = np.searchsorted(np.sort(entries(patients)), months, side="left")
    ended = np.searchsorted(time, months, side="left")
    return np.asarray(entered - ended, dtype=np.float64)


def warnings(patients: pd.DataFrame, where: str) -> list[str]:
    """A warning where an early event has few patients at risk, since the curve after it depends on them."""
    smallest = smallest_early_risk_set(patients) if has_entries(patients) else float("nan")
    if not smallest < MIN_RISK_SET:
        return []
    return [
        f"{where}: only {smallest:.0f} patients are at risk at an early event, since most enter later: every survival "
        "curve is unstable from there on (docs/cohort.md, Delayed entry)"
    ]


def check_no_competing_events(patients: pd.DataFrame, where: str) -> None:
    """Check that a cohort with late entry has no competing events.

    Raises DataError when it has both: the cumulative incidence of competing events has no left truncation here.
    """
    if has_entries(patients) and "competing" in patients:
        hint = "write 0 (censored) for competing events, or leave out the entry (docs/cohort.md, Delayed entry)"
        raise DataError(f"competing events together with late entry ({COLUMN}) are not supported", where, hint)


def check_same(cohorts: Sequence[tuple[str, pd.DataFrame]]) -> None:
    """Check that all of these cohorts (address, patients), or none of them, have the column.

    Raises DataError for the first that differs: without it, patients would count as observed from the origin.
    """
    for where, patients in cohorts[1:]:
        if has_entries(patients) != has_entries(cohorts[0][1]):
            what = f"only one of this cohort and {cohorts[0][0]} has the column {COLUMN}"
            hint = "ingest all cohorts with this column (0: observed from the origin), or all without it"
            raise DataError(what, where, hint)
