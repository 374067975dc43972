"""The column of the entry under observation (left truncation) that `mcti init` proposes."""

import pandas as pd

from mcti.cohort import delayed_entry
from mcti.cohort.labels import MONTHS_PER
from mcti.project import column_names
from mcti.project.endpoints import scaled


def guess(frame: pd.DataFrame) -> dict[str, str]:
    """{entry_months: column} where one column, and no other, has by its name and values such entries; else empty."""
    names = [str(name) for name in frame.columns if delayed_entry.is_entry_name(str(name))]
    found = [name for name in names if delayed_entry.entry_times(frame[name]) is not None]
    return {"entry_months": found[0]} if len(found) == 1 else {}


def in_unit_of_times(
    frame: pd.DataFrame, columns: dict[str, str], unit: str
) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """The table with the entries in the unit of the follow-up, what was converted, and the question for the user.

    A column without a unit in its name is taken as in `unit` (days, months, years). `columns` then names the new column.
    """
    source = columns.get("entry_months")
    if source is None:
        return frame, (), ()
    question = (_question(frame, source, column_names.unit_of(source) or unit),)
    stated = column_names.unit_of(source)
    if stated is None or stated == unit:
        return frame, (), question
    columns["entry_months"] = f"entry_{unit}"
    cells = scaled(frame[source], MONTHS_PER[stated] / MONTHS_PER[unit])
    change = f"entry_{unit}: {source} in {unit} (it is in {stated})"
    return frame.assign(**{f"entry_{unit}": cells}), (change,), question


def _question(frame: pd.DataFrame, source: str, unit: str) -> str:
    entries = delayed_entry.entry_times(frame[source])
    late = 0 if entries is None else int((entries > 0).sum())
    return (
        f"{source} is taken as the entry under observation ({late} of {len(frame)} patients after the origin, in "
        f"{unit}): patients count as at risk from it; another column: --entry"
    )
