"""Clinical tables with dates in place of follow-up times: the command that computes the times from the dates."""

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import pandas as pd

from mcti.cohort.raw_tables import is_missing
from mcti.errors import DataError
from mcti.project import column_names
from mcti.project.foreign_tables import ForeignTable

_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}([T ].*)?|\d{1,2}[./-]\d{1,2}[./-](\d{4}|\d{2})")
_DAY_AND_MONTH = re.compile(r"(\d{1,2})[/-](\d{1,2})[/-]\d")
_BIRTH = re.compile(r"birth|dob|born|geburt|geboren")
_START = re.compile(r"diagnos|surgery|resection|operation|random|enrol|inclusion|start|baseline|beginn")
_DEATH = re.compile(r"death|dead|died|decease|tod\b|todes|verstorben|gestorben|sterbe")
_LAST = re.compile(r"follow|contact|kontakt|last|letzt|seen|visit|alive|nachsorge|censor")
_READERS = {
    "Windows-1252": 'encoding="cp1252"',
    "UTF-16": 'encoding="utf-16"',
    "separated by semicolons": 'sep=";"',
    "separated by tabs": r'sep="\t"',
    "separated by vertical bars": 'sep="|"',
}
"""Difference of a foreign table -> the argument of `pandas.read_csv` that reads it."""


@dataclass(frozen=True)
class _Roles:
    """The columns of the origin, of the death and of the last contact; "" where there is none."""

    start: str
    death: str
    last: str


def date_columns(frame: pd.DataFrame) -> list[str]:
    """Columns whose filled cells are dates."""
    return [str(name) for name in frame.columns if _are_dates(frame[name])]


def check_no_dates(frame: pd.DataFrame, times: Sequence[str], source: ForeignTable) -> None:
    """Check that no column of follow-up times has dates; times: the columns of the end points.

    Raises DataError for the first that has, with the command that computes the times.
    """
    for column in times:
        if _are_dates(frame[column]):
            raise DataError("dates in place of times", f"{source.where}, column {column}", hint(frame, source))


def hint(frame: pd.DataFrame, source: ForeignTable) -> str:
    """How to compute times of the dates of a table: a command with its file and its columns, to be run in a shell."""
    columns = date_columns(frame)
    roles = _roles(columns)
    if roles is None:
        return (
            f"{', '.join(columns[:4])} has dates, and the times are the days between two: add the column of the other "
            "date, of the diagnosis, or of the death or last contact"
        )
    file = f"{PurePosixPath(source.where).name.partition('.')[0]}_days.csv"
    has_event = bool(roles.death) and "event" not in column_names.guess(_without(frame, columns))
    command = f"python -c {shlex.quote(_program(frame, source, roles, file, has_event=has_event))}"
    flags = f"--clinical {shlex.quote(file)} --time time_days" + (" --event event" if has_event else "")
    return (
        f"{', '.join(columns[:4])} have dates; write {file} with {_added(roles, has_event=has_event)}: {command}; "
        f"then use {flags}{_order_note(frame[columns])}"
    )


def _added(roles: _Roles, *, has_event: bool) -> str:
    """What the program adds to the table, for the user."""
    end = " or, without one, to ".join(repr(name) for name in (roles.death, roles.last) if name)
    event = f", and event, 1 for a date in {roles.death!r}" if has_event else ""
    return f"time_days, the days from {roles.start!r} to {end}{event}"


def _are_dates(cells: "pd.Series[str]") -> bool:
    filled = [cell for cell in cells if not is_missing(cell)]
    return bool(filled) and all(_DATE.fullmatch(cell.strip()) for cell in filled)


def _without(frame: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    return [str(name) for name in frame.columns if name not in columns]


def _roles(columns: Sequence[str]) -> _Roles | None:
    """The roles by the names, else by the order of the columns; None where the dates are of one role only."""
    rest = [name for name in columns if not _matches(_BIRTH, name)]
    last = [name for name in rest if _matches(_LAST, name)]
    death = [name for name in rest if _matches(_DEATH, name) and name not in last]
    others = [name for name in rest if name not in {*last, *death}]
    starts = [name for name in others if _matches(_START, name)] or others
    last = last or ([] if death else [name for name in others if name not in starts[:1]][-1:])
    if not starts or not (death or last):
        return None
    return _Roles(starts[0], next(iter(death), ""), next(iter(last), ""))


def _matches(pattern: "re.Pattern[str]", name: str) -> bool:
    return pattern.search(column_names.plain(name).replace("_", " ")) is not None


def _program(frame: pd.DataFrame, source: ForeignTable, roles: _Roles, file: str, *, has_event: bool) -> str:
    """The program: read the table as text, add the days (and the event), write it with the same delimiter."""
    separator = next((_READERS[name] for name in source.differences if _READERS.get(name, "").startswith("sep")), "")
    first, *others = [f"date({_literal(name)})" for name in (roles.death, roles.last) if name]
    end = f"{first}.fillna({others[0]})" if others else first
    options = f'format="mixed", dayfirst={_is_day_first(frame)}, errors="coerce"'
    lines = [
        "import pandas as pd",
        f"t = {_reader(source)}",
        f"date = lambda name: pd.to_datetime(t[name], {options})",
        f't["time_days"] = ({end} - date({_literal(roles.start)})).dt.days.astype("Int64")',
        *([f't["event"] = date({_literal(roles.death)}).notna().astype(int)'] if has_event else []),
        f"t.to_csv({', '.join(filter(None, (_literal(file), separator, 'index=False')))})",
    ]
    return "; ".join(lines)


def _literal(text: str) -> str:
    """A string of Python in double quotes, which need no escape in a shell's single quotes."""
    return json.dumps(text, ensure_ascii=False)


def _reader(source: ForeignTable) -> str:
    if source.where.casefold().endswith((".parquet", ".pq")):
        return f"pd.read_parquet({_literal(source.where)}).astype(str)"
    arguments = [_READERS[name] for name in source.differences if name in _READERS]
    comments = next((name.split()[0] for name in source.differences if name.endswith(" comment lines")), None)
    arguments += [f"skiprows={comments}"] if comments else []
    return f"pd.read_csv({', '.join([_literal(source.where), *arguments, 'dtype=str'])})"


def _is_day_first(frame: pd.DataFrame) -> bool:
    """Whether dates such as 05/01/2010 have the day first; only a month above 12 contradicts it."""
    return not any(int(second) > 12 for _, second in _days_and_months(frame))


def _order_note(frame: pd.DataFrame) -> str:
    """A note where no date shows whether the day or the month is first."""
    pairs = _days_and_months(frame)
    if not pairs or any(int(number) > 12 for pair in pairs for number in pair):
        return ""
    return "; the day is taken as first in the dates: write dayfirst=False if it is the month"


def _days_and_months(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """The first two numbers of each date of the form 05/01/2010 or 05-01-2010."""
    cells = (cell.strip() for name in date_columns(frame) for cell in frame[name])
    return [match.groups() for cell in cells if (match := _DAY_AND_MONTH.match(cell))]  # type: ignore[misc]
