"""Columns with the time at which a patient came under observation (delayed entry, left truncation).

Without such a column every estimate counts a patient at risk from the origin of the times. Patients who had the event
before their entry are in no table, so survival is overestimated where entries are later than the origin.
"""

import re

import numpy as np
import pandas as pd

from mcti.arrays import FloatArray
from mcti.cohort.raw_tables import is_missing

_ENTRY = re.compile(r"entry|enrol(l?ment)?|registration|sequencing")
_INTERVAL = re.compile(r"time|days|months|years|delayed|late")
_NAMES = re.compile(r"entry|(t_?start|left_trunc(ation)?|truncation_time)(_.*)?|(.*_)?time_of_truncation")
_CALENDAR_YEARS = (1900, 2100)


def is_entry_name(column: str) -> bool:
    """Whether the name is one of an entry: `entry`, `entry_months`, `DAYS_TO_SEQUENCING`, `Left truncation (days)`."""
    words = re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", column).lower())
    has_interval = any(map(_ENTRY.fullmatch, words)) and any(map(_INTERVAL.fullmatch, words))
    return "age" not in words and (has_interval or _NAMES.fullmatch("_".join(words)) is not None)


def entry_times(cells: "pd.Series[str]") -> FloatArray | None:
    """The entries (n,) of the cells that have one; None where the column holds no intervals from an origin.

    Intervals are finite numbers of at least 0, some above 0, and not all calendar years.
    """
    filled = cells[~cells.map(is_missing)]
    values: FloatArray = pd.to_numeric(filled, errors="coerce").to_numpy(np.float64)
    first, last = _CALENDAR_YEARS
    are_years = bool(((values >= first) & (values <= last)).all())
    are_intervals = bool(np.isfinite(values).all() and (values >= 0).all() and (values > 0).any())
    return values if are_intervals and not are_years else None


def warnings(frame: pd.DataFrame, where: str, used: str | None = None) -> list[str]:
    """A warning for each column of entries, with the number and the median of those after the origin.

    used    the column that the cohort has as `entry_months`: then there is no warning
    """
    texts: list[str] = []
    for column in map(str, frame.columns if used is None else ()):
        entries = entry_times(frame[column]) if is_entry_name(column) else None
        if entries is not None:
            texts.append(_warning(where, column, entries, len(frame)))
    return texts


def _warning(where: str, column: str, entries: FloatArray, patients: int) -> str:
    after_origin = entries[entries > 0]
    median = f"median {np.median(after_origin):.4g} in the unit of the column"
    counts = f"{len(after_origin)} of {patients} patients after the origin, {median}"
    return (
        f"{where}: column {column!r} appears to be the time of entry under observation ({counts}), and is not "
        "used: every patient counts as at risk from the origin, so that survival is overestimated; set "
        f"ingest.columns: {{entry_months: {column}}} (docs/cohort.md, Delayed entry)"
    )
