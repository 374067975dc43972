"""Competing events: patients whose observation ended with an event after which the event of interest cannot occur.

A cohort with such patients has the column `competing`. Its `event` is 0 for them, so that an estimate that reads
`event` alone is cause-specific.
"""

import numpy as np
import pandas as pd

from mcti.arrays import BoolArray
from mcti.cohort import labels
from mcti.cohort.raw_tables import RawTable
from mcti.errors import DataError, UsageError

_HINT = "write 1 (a competing event ended the observation) or 0"


def outcome(table: RawTable, words: dict[str, int]) -> dict[str, pd.Series]:
    """The columns `event` (rows,) and, where the source states competing events, `competing` (rows,), as Int8.

    The source states them by `words` (ingest.event_values), which maps a value to 2, or by a column `competing`; with 1
    in that column an empty cell of the event means 0.

    Raises
        DataError when a patient has both events, or a patient without the event has no cell in `competing`.
        UsageError when both `words` and a column state competing events.
    """
    codes = labels.events(table, "event", words)
    by_value, by_column = labels.COMPETING in words.values(), "competing" in table.frame.columns
    if by_value and by_column:
        hint = "remove the value 2 from ingest.event_values, or leave out the column"
        raise UsageError("competing events are stated twice", f"ingest.event_values and {table.where}", hint)
    if by_column:
        competing = _flags(table, codes)
        return {"event": codes.mask(codes.isna() & (competing == 1), 0), "competing": competing}
    if by_value:
        is_competing = (codes == labels.COMPETING).fillna(value=False)
        return {"event": codes.mask(is_competing, 0), "competing": is_competing.astype("Int8")}
    return {"event": codes}


def _flags(table: RawTable, event: pd.Series) -> pd.Series:
    """The column `competing` (rows,), 0 where the event (rows,) was observed and the cell is empty."""
    values = labels.flags(table, "competing", _HINT)
    name = table.originals.get("competing", "competing")
    for position in np.flatnonzero(((values == 1) & (event == 1)).fillna(value=False)):
        what = f"{name} is 1, and the event was observed, too"
        hint = "the first of the two events ends the observation: write 0 for the other, with its time"
        raise DataError(what, table.address(int(position), "competing"), hint)
    for position in np.flatnonzero((values.isna() & (event == 0)).fillna(value=False)):
        raise DataError(f"{name} is missing", table.address(int(position), "competing"), _HINT)
    return values.fillna(0)


def without_empty_column(patients: pd.DataFrame, where: str) -> tuple[pd.DataFrame, list[str]]:
    """The patients without a column `competing` that is 0 for all, and a warning that states it."""
    if "competing" not in patients:
        return patients, []
    if (patients["competing"] == 1).any():
        return patients.assign(competing=patients["competing"].astype("int8")), []
    return patients.drop(columns="competing"), [
        f"{where}: no patient has a competing event, although the settings or a column state them"
    ]


def flags(patients: pd.DataFrame) -> BoolArray:
    """Whether each patient (n,) had a competing event; false for all where the cohort has no such column."""
    if "competing" not in patients:
        return np.zeros(len(patients), dtype=np.bool_)
    return np.asarray(patients["competing"].to_numpy(dtype=np.int64) == 1)


def counts(patients: pd.DataFrame) -> dict[str, int]:
    """{competing_events: patients with one}; empty for a cohort without competing events."""
    return {"competing_events": int(flags(patients).sum())} if "competing" in patients else {}
