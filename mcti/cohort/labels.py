"""Text to ids, numbers, flags, times and events: one meaning a column, or an error that shows the cell."""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from mcti.cohort.reading import RawTable, is_missing, shorten
from mcti.cohort.tables import ID_PATTERN
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
"""20140506 is a number, but never a length of time."""
_MASKED = re.compile(r"(?:[<>≤≥]=?\s*\d+|\d+\s*(?:\+|or (?:older|more|younger)))", re.IGNORECASE)
"""Ages of the oldest and youngest, masked for data protection (HIPAA: all above 89)."""
_DECIMAL_COMMA = re.compile(r"[+-]?(?:\d+|\d{1,3}(?:\.\d{3})+),\d+")
_LOST_TEXT = re.compile(r"\d+\.0+|\d(\.\d+)?[eE]\+?\d+")
_KNOWN_EVENTS = "yes/no, alive/dead, living/deceased, true/false, 0:LIVING/1:DECEASED"


def check_ids(ids: Sequence[str], at: Callable[[int], str], name: str = "patient_id") -> None:
    """Raise a DataError for the first id that cannot name a file or a row; `at` gives the address of a position.

    Refused: no id, a blank at an end, characters of paths, markup or formulas, more than 128 characters, a whole
    number with decimals (a spreadsheet made it so).
    """
    for position, text in enumerate(ids):
        if is_missing(text):
            raise DataError(f"no {name}", at(position), "give each row an id, or delete the row")
        if text != text.strip():
            raise DataError(f"{name} {text!r} has a blank at its end", at(position), "delete the blank")
        if _LOST_TEXT.fullmatch(text):
            what = f"{name} {text!r} is a number with decimals"
            raise DataError(what, at(position), "write ids as text: 7 and 7.0 are not the same id")
        if not ID_PATTERN.fullmatch(text):
            hint = "use letters, digits and _ . + - only, a letter or digit first, at most 128 characters"
            raise DataError(f"{name} {shorten(text)!r} is not well-formed", at(position), hint)


def check_unique(ids: Sequence[str], at: Callable[[int], str], name: str = "patient_id") -> None:
    """Raise a DataError for the first id that stands twice, or differs from another only by case or leading zeros."""
    seen: dict[str, int] = {}
    for position, text in enumerate(ids):
        first = seen.setdefault(_folded(text), position)
        if first == position:
            continue
        if ids[first] == text:
            what, hint = f"duplicate {name} {text!r}", "keep one row for each"
        else:
            what = f"{name} {text!r} and {ids[first]!r} differ only by case or leading zeros"
            hint = "write one id in one way"
        raise DataError(what, f"{at(position)}; the other: {at(first)}", hint)


def check_same_spelling(ids: Sequence[str], known: Sequence[str], at: Callable[[int], str], other: str) -> None:
    """Raise a DataError for the first id that is in `known` (table `other`) only by another case or leading zeros."""
    exact, folded = set(known), {_folded(text): text for text in known}
    for position, text in enumerate(ids):
        if text not in exact and _folded(text) in folded:
            what = f"patient_id {text!r} is written {folded[_folded(text)]!r} in {other}"
            raise DataError(what, at(position), "write one id in one way")


def _folded(text: str) -> str:
    return text.casefold().lstrip("0") or "0"


def numbers(table: RawTable, column: str) -> pd.Series:
    """A column as float64; a missing value is NaN.

    Raises
        DataError: a cell that is no finite number, with its row, column and value.
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
        raise DataError(what, table.at(position, column), _mend_number(column, text))
    return value


def _float(text: str) -> float | None:
    try:
        return float(text.replace("_", "?"))  # float() takes 1_000 for a thousand; a table never means that
    except ValueError:
        return None


_A_DATE = "a date stands where a length of time or a number should: write the difference of the two dates"


def _mend_number(column: str, text: str) -> str:
    if _DATE.fullmatch(text.strip()):
        return _A_DATE
    if _DECIMAL_COMMA.fullmatch(text.strip()):
        return f"write a decimal point: {text.strip().replace('.', '').replace(',', '.')}"
    if column == "age" and _MASKED.fullmatch(text.strip()):
        return f"give masked ages a number: ingest.age_values: {{{text.strip()!r}: YEARS}}"
    if column == "time_months":
        return "write months (days / 30.4375), leave the cell empty, or delete the row"
    return "write a number, or leave the cell empty"


def times(table: RawTable, column: str, unit: str) -> pd.Series:
    """Follow-up in months from a column in `unit` (days, months, years); NaN where there is none.

    Raises
        DataError: a cell that is no number, a date, or a negative one.
    """
    values = numbers(table, column)
    for row, text in enumerate(table.frame[column].tolist()):
        if _BARE_DATE.fullmatch(text.strip()):
            what = f"{table.originals.get(column, column)} is {text!r}, a date"
            raise DataError(what, table.at(row, column), _A_DATE)
    for position in np.flatnonzero(values.to_numpy() < 0):
        text = table.frame[column].iloc[position]
        hint = "a follow-up counts from diagnosis forwards: mend the dates or delete the row"
        raise DataError(f"time is {text}, which is negative", table.at(int(position), column), hint)
    return values * MONTHS_PER[unit]


def ages(table: RawTable, column: str, masked: Mapping[str, float]) -> pd.Series:
    """Ages in years as float64, NaN where missing; `masked` (ingest.age_values) gives cells such as `>89` a number.

    Raises
        DataError: a cell that is neither a number nor in `masked`.
    """
    known = {"".join(word.split()): repr(float(years)) for word, years in masked.items()}
    cells = table.frame[column].map(lambda text: known.get("".join(text.split()), text))
    frame = table.frame.assign(**{column: cells})
    return numbers(RawTable(frame, table.where, table.rows, table.warnings, table.originals), column)


def flags(table: RawTable, column: str, hint: str = "write 1, 0 or nothing") -> pd.Series:
    """A column of 0 and 1 as nullable Int8; `1.0` is taken for 1."""
    meanings = {"1": 1, "0": 0, "1.0": 1, "0.0": 0}
    return _mapped(table, column, meanings, hint)


def events(table: RawTable, column: str, words: dict[str, int]) -> pd.Series:
    """A column of events as nullable Int8, 1 = the event was seen; `words` (ingest.event_values) adds meanings.

    Words such as dead and alive are never guessed: a wrong guess turns every curve round.

    Raises
        DataError: a value that is neither 0, 1 nor among `words`.
        UsageError: `words` gives another meaning than 0 or 1.
    """
    for word, meaning in words.items():
        if meaning not in (0, 1):
            hint = "1: the event was seen; 0: censored"
            raise UsageError(f"{word!r} means {meaning}", "ingest.event_values", hint)
    known = {"1": 1, "0": 0, "1.0": 1, "0.0": 0, **{word.strip().casefold(): value for word, value in words.items()}}
    said = f"write 1 (seen) or 0 (censored), or say what the words mean ({_KNOWN_EVENTS}) in ingest.event_values"
    return _mapped(table, column, known, f"{said}, e.g. {{dead: 1, alive: 0}}")


def _mapped(table: RawTable, column: str, meanings: dict[str, int], hint: str) -> pd.Series:
    found: list[int | None] = []
    for position, text in enumerate(table.frame[column].tolist()):
        meaning = meanings.get(text.strip().casefold())
        if meaning is None and not is_missing(text):
            what = f"{table.originals.get(column, column)} is {shorten(text)!r}, neither 0 nor 1"
            raise DataError(what, table.at(position, column), hint)
        found.append(meaning)
    return pd.Series(found, dtype="Int8")


def texts(table: RawTable, column: str) -> pd.Series:
    """A column of text, blanks at the ends gone; a missing value is None."""
    return pd.Series([None if is_missing(t) else t.strip() for t in table.frame[column].tolist()], dtype=object)


def covariate(table: RawTable, column: str) -> pd.Series:
    """A clinical covariate: numbers where every value is one, else text."""
    cells = [t for t in table.frame[column].tolist() if not is_missing(t)]
    values = [_float(t) for t in cells]
    if all(value is not None and np.isfinite(value) for value in values):
        return numbers(table, column)
    return texts(table, column)
