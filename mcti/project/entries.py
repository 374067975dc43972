"""The column of the entry under observation (left truncation) that `mcti init` proposes."""

import pandas as pd

from mcti.cohort import delayed_entry
from mcti.cohort.labels import MONTHS_PER
from mcti.project import column_names
from mcti.project.endpoints import scaled

_MIN_BEFORE = 0.9


def guess(frame: pd.DataFrame) -> dict[str, str]:
    """{entry_months: column} where one column, and no other, has by its name and values such entries; else empty."""
    names = [str(name) for name in frame.columns if delayed_entry.is_entry_name(str(name))]
    entries = [name for name in names if delayed_entry.entry_times(frame[name]) is not None]
    return {"entry_months": entries[0]} if len(entries) == 1 else {}


def in_unit_of_times(
    frame: pd.DataFrame, columns: dict[str, str], time: str, unit: str, *, stated: bool
) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """The table with the entries in the unit of the follow-up, what was converted, and the question for the user.

    time, unit  column of the follow-up and its unit (days, months, years), also that of entries without a unit in
                their name
    stated      the user named the column; else it is no entry where most patients do not enter before their follow-up
                ends, and is removed from `columns`
    """
    source = columns.get("entry_months")
    if source is None:
        return frame, (), ()
    own_unit = column_names.unit_of(source) or unit
    cells = scaled(frame[source], MONTHS_PER[own_unit] / MONTHS_PER[unit]) if own_unit != unit else frame[source]
    if not stated and _share_before(cells, frame[time]) < _MIN_BEFORE:
        del columns["entry_months"]
        return frame, (), ()
    question = (_question(frame, source, own_unit),)
    if own_unit == unit:
        return frame, (), question
    columns["entry_months"] = name = f"entry_{unit}"
    return frame.assign(**{name: cells}), (f"{name}: {source} in {unit} (it is in {own_unit})",), question


def _share_before(entries: "pd.Series[str]", times: "pd.Series[str]") -> float:
    """Share of the patients with both numbers who enter before their follow-up ends; 0: no patient has both."""
    first, last = (pd.to_numeric(cells, errors="coerce") for cells in (entries, times))
    known = first.notna() & last.notna()
    return float((first < last)[known].mean()) if known.any() else 0.0


def _question(frame: pd.DataFrame, source: str, unit: str) -> str:
    entries = delayed_entry.entry_times(frame[source])
    late = 0 if entries is None else int((entries > 0).sum())
    return (
        f"{source} is taken as the entry under observation ({late} of {len(frame)} patients after the origin, in "
        f"{unit}): patients count as at risk from it; another column: --entry"
    )
