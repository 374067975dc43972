"""Text cells to ids, numbers, flags, times and events, or an error that quotes the cell."""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from mcti.cohort.raw_tables import RawTable, is_missing, shorten
from mcti.cohort.tables import ID_PATTERN, ID_RULE
from mcti.errors import DataError, UsageError

MONTHS_PER = {"days": 1 / 30.4375, "months": 1.0, "years": 12.0}
"""Months in one unit of time. A month is 365.25 / 12 = 30.4375 days."""

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*"
_DATE = re.compile(
    rf"\d{{4}}[-/.]\d{{1,2}}[-/.]\d{{1,2}}.*|\d{{1,2}}[-/.]\d{{1,2}}[-/.]\d{{2,4}}.*"
    rf"|\d{{1,2}}[-/. ]+{_MONTH}[-/., ]+\d{{2,4}}.*|{_MONTH}[. ]+\d{{1,2}},? +\d{{2,4}}.*",
    re.IGNORECASE,
)
_BARE_DATE = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:\.0+)?")
"""20140506 is a date, although it can be parsed as a number."""
_MASKED = re.compile(r"(?:[<>≤≥]=?\s*\d+|\d+\s*(?:\+|or (?:older|more|younger)))", re.IGNORECASE)
"""Ages masked for data protection, such as >89 (HIPAA: all ages above 89)."""
_DECIMAL_COMMA = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+")
_NUMBER_WITH_DECIMALS = re.compile(r"\d+\.0+|\d(\.\d+)?[eE]\+?\d+")
_COMPETING_VALUES = 3  # distinct values of an event column, from which one may be a competing event
_VALUES_SHOWN = 6
COMPETING = 2
"""Code of a competing event among the meanings of an event column (`events`)."""
_COMMON_EVENT_WORDS = "yes/no, alive/dead, living/deceased, true/false, 0:LIVING/1:DECEASED"


Address = Callable[[int], str]
"""Position in a column -> address of the cell for an error message."""


def check_ids(ids: Sequence[str], address: Address, name: str = "patient_id") -> None:
    """Check that each id is well formed (`ID_PATTERN`), since ids become file names and are shown in reports.

    Raises DataError when an id is missing, starts or ends with a space, is longer than 128 characters, contains
    characters of paths, markup or formulas, or is a number with decimals (a spreadsheet converts 7 to 7.0).
    """
    for position, text in enumerate(ids):
        if is_missing(text):
            raise DataError(f"{name} is missing", address(position), "write an id in each row, or delete the row")
        if text != text.strip():
            raise DataError(f"{name} {text!r} starts or ends with a space", address(position), "delete the space")
        if _NUMBER_WITH_DECIMALS.fullmatch(text):
            what = f"{name} {text!r} is a number with decimals"
            raise DataError(what, address(position), "write ids as text: 7 and 7.0 are different ids")
        if not ID_PATTERN.fullmatch(text):
            raise DataError(f"{name} {shorten(text)!r} is not well formed", address(position), ID_RULE)


def check_unique(ids: Sequence[str], address: Address, name: str = "patient_id") -> None:
    """Check that each id occurs once.

    Raises DataError when an id is duplicated, or differs from another id only by case or leading zeros.
    """
    first_position: dict[str, int] = {}
    for position, text in enumerate(ids):
        first = first_position.setdefault(_folded(text), position)
        if first == position:
            continue
        if ids[first] == text:
            what, hint = f"duplicate {name} {text!r}", "keep one row of it"
        else:
            what = f"{name} {text!r} and {ids[first]!r} differ only by case or leading zeros"
            hint = "write each id in one spelling"
        raise DataError(what, f"{address(position)}; the first: {address(first)}", hint)


def check_same_spelling(ids: Sequence[str], known: Sequence[str], address: Address, other: str) -> None:
    """Check that ids which are also in `known` (the ids of table `other`) have the same spelling in both tables.

    Raises DataError when an id differs from one in `known` only by case or leading zeros.
    """
    exact, folded = set(known), {_folded(text): text for text in known}
    for position, text in enumerate(ids):
        if text not in exact and _folded(text) in folded:
            what = f"patient_id {text!r} is written {folded[_folded(text)]!r} in {other}"
            raise DataError(what, address(position), "write each id in one spelling")


def _folded(text: str) -> str:
    return text.casefold().lstrip("0") or "0"


def numbers(table: RawTable, column: str) -> pd.Series:
    """A column as float64 (rows,); a missing value is NaN.

    Raises DataError when a cell is not a finite number, with its row, column and value.
    """
    texts = table.frame[column].tolist()
    values = [_number(table, column, position, text) for position, text in enumerate(texts)]
    return pd.Series(values, dtype=np.float64)


def _number(table: RawTable, column: str, position: int, text: str) -> float:
    if is_missing(text):
        return float("nan")
    value = _float(text)
    if value is None or not np.isfinite(value):
        what = f"{table.originals.get(column, column)} is {shorten(text)!r}, not a number"
        raise DataError(what, table.address(position, column), _number_hint(column, text))
    return value


def _float(text: str) -> float | None:
    try:
        return float(text.replace("_", "?"))  # float() parses 1_000 as 1000, which no table means
    except ValueError:
        return None


_DATE_HINT = "a duration or a number is needed, not a date: write the difference of the two dates"


def _number_hint(column: str, text: str) -> str:
    if _DATE.fullmatch(text.strip()):
        return _DATE_HINT
    if _DECIMAL_COMMA.fullmatch(text.strip()):
        return f"write a decimal point: {text.strip().replace('.', '').replace(',', '.')}"
    if column == "age" and _MASKED.fullmatch(text.strip()):
        return f"set a number for masked ages: ingest.age_values: {{{text.strip()!r}: YEARS}}"
    if column in ("time_months", "entry_months"):
        return "write months (days / 30.4375), leave the cell empty, or delete the row"
    return "write a number, or leave the cell empty"


def times(table: RawTable, column: str, unit: str) -> pd.Series:
    """Times from the origin (rows,) in months from a column in `unit` (days, months, years); NaN where it is missing.

    Raises DataError when a cell is not a number, is a date, or is negative.
    """
    values = numbers(table, column)
    for row, text in enumerate(table.frame[column].tolist()):
        if _BARE_DATE.fullmatch(text.strip()):
            what = f"{table.originals.get(column, column)} is {text!r}, a date"
            raise DataError(what, table.address(row, column), _DATE_HINT)
    for position in np.flatnonzero(values.to_numpy() < 0):
        text = table.frame[column].iloc[position]
        hint = "follow-up starts at diagnosis: correct the dates, or delete the row"
        if column == "entry_months":
            hint = "a patient under observation from the origin has the entry 0"
        raise DataError(f"time is {text}, which is negative", table.address(int(position), column), hint)
    return values * MONTHS_PER[unit]


def ages(table: RawTable, column: str, masked: Mapping[str, float]) -> pd.Series:
    """Ages (rows,) in years, NaN where missing; `masked` (ingest.age_values) maps cells such as `>89` to a number.

    Raises DataError when a cell is neither a number nor in `masked`.
    """
    known = {"".join(word.split()): repr(float(years)) for word, years in masked.items()}
    cells = table.frame[column].map(lambda text: known.get("".join(text.split()), text))
    return numbers(table.replace_column(column, cells), column)


_FLAG_VALUES = {"1": 1, "0": 0, "1.0": 1, "0.0": 0}


def flags(table: RawTable, column: str, hint: str) -> pd.Series:
    """A column of 0 and 1 (rows,) as nullable Int8; `1.0` is accepted as 1.

    Raises DataError when a cell is neither 0 nor 1 nor missing; `hint`: how to correct it.
    """
    return _mapped(table, column, _FLAG_VALUES, hint)


def events(table: RawTable, column: str, words: dict[str, int]) -> pd.Series:
    """A column of events (rows,) as nullable Int8: 0 censored, 1 the event, 2 a competing event.

    Words such as dead and alive are never guessed: a wrong guess would invert every survival curve. Nor is a cell of 2:
    it may be a competing event, or the event of a table that codes 1 and 2.

    words   value -> 0, 1 or 2 (ingest.event_values)

    Raises
        DataError when a value is neither 0 nor 1 nor among `words`.
        UsageError when `words` maps a word to something else than 0, 1 or 2.
    """
    for word, meaning in words.items():
        if meaning not in (0, 1, COMPETING):
            hint = "write 1 (the event was observed), 0 (censored) or 2 (a competing event)"
            raise UsageError(f"{word!r} is mapped to {meaning}", "ingest.event_values", hint)
    values = _FLAG_VALUES | {word.strip().casefold(): value for word, value in words.items()}
    hint = f"write 1 (observed) or 0 (censored), or map the words ({_COMMON_EVENT_WORDS}) in ingest.event_values"
    return _mapped(table, column, values, f"{hint}, e.g. {{dead: 1, alive: 0}}{competing_hint(table.frame[column])}")


def competing_hint(cells: pd.Series) -> str:
    """What a third value of a column of events (rows,) may mean, with the counts; empty below three values."""
    filled = cells[~cells.map(is_missing)].str.strip().str.casefold()
    counts = filled.value_counts().sort_index()
    if len(counts) < _COMPETING_VALUES:
        return ""
    shown = ", ".join(f"{shorten(str(value))}: {count}" for value, count in counts.head(_VALUES_SHOWN).items())
    more = ", ..." if len(counts) > _VALUES_SHOWN else ""
    return (
        f"; {len(counts)} values ({shown}{more}): if one is a competing event, 2 states it (cumulative incidence); 0 "
        "would censor the patient at that time (cause-specific analysis, in which 1 - S(t) is not the absolute risk), "
        "and 1 would make it part of a composite endpoint"
    )


def _mapped(table: RawTable, column: str, values: dict[str, int], hint: str) -> pd.Series:
    mapped: list[int | None] = []
    for position, text in enumerate(table.frame[column].tolist()):
        value = values.get(text.strip().casefold())
        if value is None and not is_missing(text):
            what = f"{table.originals.get(column, column)} is {shorten(text)!r}, neither 0 nor 1"
            raise DataError(what, table.address(position, column), hint)
        mapped.append(value)
    return pd.Series(mapped, dtype="Int8")


def texts(table: RawTable, column: str) -> pd.Series:
    """A column of text (rows,) without spaces at the ends; a missing value is None."""
    return pd.Series([None if is_missing(t) else t.strip() for t in table.frame[column].tolist()], dtype=object)


def levels(table: RawTable, column: str, replaced: Mapping[str, str | None], order: Sequence[str] = ()) -> pd.Series:
    """A categorical covariate (rows,) as text; a missing value is None.

    replaced  cells and the levels that replace them (ingest.category_values), None: missing
    order     all levels of an ordered scale; empty: nominal

    Raises DataError when a cell of an ordered scale is none of its levels, with its row, column and value.
    """
    values: list[str | None] = []
    for position, text in enumerate(table.frame[column].tolist()):
        cell = None if is_missing(text) and text.strip() not in replaced else text.strip()
        level = cell if cell is None else replaced.get(cell, cell)
        if order and level is not None and level not in order:
            what = f"{table.originals.get(column, column)} is {shorten(level)!r}, not one of {', '.join(order)}"
            hint = f"map it: ingest.category_values: {{{column}: {{{level!r}: LEVEL}}}}, null for a missing value"
            raise DataError(what, table.address(position, column), hint)
        values.append(level)
    return pd.Series(values, dtype=object)


def covariate(table: RawTable, column: str) -> pd.Series:
    """A clinical covariate (rows,): float64 where every value is a number, else text."""
    cells = [t for t in table.frame[column].tolist() if not is_missing(t)]
    values = [_float(t) for t in cells]
    if all(value is not None and np.isfinite(value) for value in values):
        return numbers(table, column)
    return texts(table, column)
