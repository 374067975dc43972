"""The meaning of the cells of a clinical table: unit of the times, coding of event and sex, scale of expression."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mcti.arrays import FloatArray
from mcti.cohort.raw_tables import is_missing
from mcti.project.column_names import plain, unit_of

OBSERVED = frozenset(
    [
        "1",
        "yes",
        "true",
        "dead",
        "deceased",
        "died",
        "death",
        "event",
        "observed",
        "1:deceased",
        "1:dead",
        "tot",
        "verstorben",
        "ja",
        "recurred",
        "progressed",
        "1:recurred/progressed",
        "1:progression",
        "relapse",
        "y",
        "j",
        "uncensored",
        "not censored",
        "décédé",
        "décédée",
        "fallecido",
        "deceduto",
    ]
)
CENSORED = frozenset(
    [
        "0",
        "no",
        "false",
        "alive",
        "living",
        "censored",
        "0:living",
        "0:alive",
        "0:diseasefree",
        "0:censored",
        "lebend",
        "lebt",
        "nein",
        "diseasefree",
        "n",
        "vivant",
        "vivante",
        "vivo",
    ]
)
UNKNOWN = frozenset(("unknown", "unbekannt", "not known", "not recorded", "?", "-", "."))
"""Cells of outcomes, age and sex that state that the value is not known."""
_FLAGS = frozenset(("0", "1", "0.0", "1.0", "yes", "no", "true", "false", "y", "n", "ja", "nein", "j"))
_INVERSE = re.compile(r"(^|_)(cens|alive|living|survived)")
FEMALE, MALE = frozenset(("female", "f", "woman", "w", "weiblich")), frozenset(("male", "m", "man", "männlich"))
SEX_MEANINGS = {"female": "1", "male": "0", "missing": ""}
"""Word of the user -> cell of the column is_female."""
_LONGEST_MONTHS = 600.0  # fifty years: a longer follow-up is in days
_LONGEST_YEARS = 30.0
_TPM_SUM = 1e6


@dataclass(frozen=True)
class Guess:
    """A proposed value with the reason, which the terminal shows; `is_sure` is false where a question is needed."""

    value: str
    reason: str
    is_sure: bool = True


def time_unit(column: str, cells: "pd.Series[str]") -> Guess:
    """Unit of a column of times: from its name where the values allow it, else from their distribution."""
    values = numbers(cells)
    if not len(values):
        return Guess("months", f"{column} has no numbers", is_sure=False)
    largest, median = float(values.max()), float(np.median(values))
    shown = f"median {median:g}, largest {largest:g}"
    if (named := unit_of(column)) is not None:
        if named == "months" and largest > _LONGEST_MONTHS:
            return Guess(
                "days", f"the name states months, but {shown} would be {largest / 12:.0f} years", is_sure=False
            )
        return Guess(named, f"the name of {column}; {shown}")
    if largest > _LONGEST_MONTHS:
        return Guess("days", f"{shown}: as months this would be {largest / 12:.0f} years")
    if largest <= _LONGEST_YEARS and not np.allclose(values, np.round(values)):
        return Guess("years", f"{shown}, with decimals", is_sure=False)
    return Guess("months", shown, is_sure=largest > _LONGEST_YEARS)


def numbers(cells: "pd.Series[str]") -> FloatArray:
    """The cells that are numbers (n,), in the unit of the column."""
    values: FloatArray = pd.to_numeric(cells.where(~cells.map(is_missing)), errors="coerce").to_numpy(np.float64)
    finite: FloatArray = values[np.isfinite(values)]
    return finite


@dataclass(frozen=True)
class EventCoding:
    """What each value of an event column means, with counts; the unknown values.

    values  {value as in the table: 0 censored, 1 the event, 2 a competing event, which only the user states}
    """

    values: Mapping[str, int]
    counts: Mapping[str, int]
    unknown: tuple[str, ...]

    def needed(self) -> dict[str, int]:
        """The values for `ingest.event_values`; empty where 0 and 1 have their usual meaning."""
        is_plain = all(
            value in ("0", "1", "0.0", "1.0") and float(value) == meaning for value, meaning in self.values.items()
        )
        return {} if is_plain else dict(self.values)

    def text(self) -> str:
        """One line for the terminal."""
        words = {1: "observed", 0: "censored", 2: "competing event"}
        return ", ".join(f"{value} = {words[meaning]} ({self.counts[value]})" for value, meaning in self.values.items())


def event_coding(column: str, cells: "pd.Series[str]") -> EventCoding:
    """The coding of an event column.

    A column of censoring or of survivors (`censored`, `OS.censor`, `alive`) is the inverse of an event; 1 and 2 are the
    coding of R, 2 = event. In an inverse column 1 and 2 are unknown.
    """
    filled = cells[~cells.map(is_missing)].str.strip().str.casefold()
    counts = {str(value): int(count) for value, count in filled.value_counts().sort_index().items()}
    is_inverse = bool(_INVERSE.search(plain(column)))
    if {float(v) for v in counts if v in ("1", "2", "1.0", "2.0")} == {1.0, 2.0} and len(counts) == 2:
        meaning = {} if is_inverse else {value: int(float(value) == 2) for value in counts}
    else:
        known = dict.fromkeys(OBSERVED | {"1.0"}, 1) | dict.fromkeys(CENSORED | {"0.0"}, 0)
        meaning = {value: known[value] for value in counts if value in known}
        if is_inverse and set(meaning) <= _FLAGS:
            meaning = {value: 1 - number for value, number in meaning.items()}
    return EventCoding(meaning, counts, tuple(value for value in counts if value not in meaning))


def female_flags(
    column: str, cells: "pd.Series[str]", stated: Mapping[str, str] | None = None
) -> tuple["pd.Series[str]", str] | None:
    """A column of sex as 1 (female), 0 and empty, and its reading; None where the values are ambiguous.

    stated  {value in lower case: "1", "0" or ""} of the user
    """
    folded = cells.str.strip().str.casefold()
    filled = set(folded[~folded.map(is_missing)])
    known = dict.fromkeys(FEMALE, "1") | dict.fromkeys(MALE, "0") | dict(stated or {})
    if filled <= set(known):
        flags = folded.map(lambda cell: known.get(cell, ""))
        return flags, f"{int((flags == '1').sum())} female, {int((flags == '0').sum())} male"
    if not stated and plain(column) in ("male", "is_male") and filled <= _FLAGS:
        flags = folded.map(lambda cell: "" if is_missing(cell) else str(int(cell not in OBSERVED | {"1.0"})))
        return flags, f"{int((flags == '1').sum())} female, {int((flags == '0').sum())} male"
    if not stated and "female" in plain(column) and filled <= {"0", "1", "0.0", "1.0"}:
        count = int(folded.isin({"1", "1.0"}).sum())
        return cells, f"{count} female, {len(filled) and int(folded.isin({'0', '0.0'}).sum())} male"
    return None


def expression_scale(values: FloatArray) -> Guess:
    """Scale of a sample of expression values (patients, genes), NaN where missing."""
    known = values[np.isfinite(values)]
    if not len(known):
        return Guess("log2", "no values", is_sure=False)
    low, high = float(known.min()), float(known.max())
    shown = f"smallest {low:g}, largest {high:g}"
    if low < 0:
        centres = np.abs(np.nanmean(np.where(np.isfinite(values), values, np.nan), axis=0))
        is_centred = float(np.median(centres)) < 0.25
        return Guess("z-score" if is_centred else "log2", f"{shown}, genes {'' if is_centred else 'not '}centred at 0")
    if high <= 40:
        return Guess("log2", shown)
    sums = np.nansum(values, axis=1)
    if np.all(np.abs(sums / _TPM_SUM - 1) < 0.05):
        return Guess("tpm", f"{shown}, the values of a patient add up to a million")
    whole = bool(np.all(known == np.round(known)))
    return Guess(
        "counts" if whole else "tpm", f"{shown}, {'whole numbers' if whole else 'with decimals'}", is_sure=whole
    )
