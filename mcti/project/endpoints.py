"""Several end points in one clinical table: the columns of each, one unit of time, one coding of events."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from mcti.cohort.labels import COMPETING, MONTHS_PER
from mcti.cohort.raw_tables import is_missing
from mcti.errors import DataError, did_you_mean
from mcti.project import coding, column_names
from mcti.project.coding import EventCoding, Guess


@dataclass(frozen=True)
class Outcome:
    """The source columns of one end point."""

    time: str
    event: str


Stated = Mapping[str, Outcome | None]
"""End point -> its columns as the user named them; None: to be found by their names."""


def find(columns: Iterable[str], stated: Stated, where: str) -> dict[str, Outcome]:
    """The columns of each end point; columns with general names such as `time` are those of OS only.

    Raises DataError when an end point has no column of times or of events.
    """
    columns = list(columns)
    named: dict[str, Outcome] = {}
    for name, outcome in stated.items():
        if outcome is not None:
            for column in (outcome.time, outcome.event):
                if column not in columns:
                    what = f"column {column!r} of --endpoint {name} is missing"
                    raise DataError(what, where, did_you_mean(column, columns))
            named[name] = outcome
    used = {column for outcome in named.values() for column in (outcome.time, outcome.event)}
    rest = [column for column in columns if column not in used]
    return {name: named.get(name) or _by_name(rest, name, where) for name in stated}


def _by_name(columns: list[str], name: str, where: str) -> Outcome:
    guess = column_names.of_endpoint(columns, name)
    if name == "OS":
        general = [column for column in columns if not column_names.is_of_another(column, name)]
        guess = column_names.guess(general) | guess
    for part, word in {"time_months": "times", "event": "events"}.items():
        if part not in guess:
            hint = f"name both: --endpoint {name}=TIMES,EVENTS; the columns are {', '.join(columns[:12])}"
            raise DataError(f"no column has a known name of the {word} of {name}", where, hint)
    return Outcome(guess["time_months"], guess["event"])


def one_unit(
    frame: pd.DataFrame, outcomes: dict[str, Outcome], stated: str | None
) -> tuple[pd.DataFrame, dict[str, Outcome], Guess, tuple[str, ...]]:
    """The times of all end points in the unit of the first; columns whose names state another unit are converted.

    The unit of columns without one in their name is that of their common distribution. Returns the table, the columns,
    the unit, and what was converted.
    """
    if stated:
        return frame, outcomes, Guess(stated, "as stated"), ()
    units = _units(frame, outcomes)
    first, *others = units
    unit, changes, result = units[first], [], dict(outcomes)
    for name in others:
        if units[name].value != unit.value:
            column = f"{name}_{unit.value}"
            factor = MONTHS_PER[units[name].value] / MONTHS_PER[unit.value]
            frame = frame.assign(**{column: scaled(frame[outcomes[name].time], factor)})
            changes.append(f"{column}: {outcomes[name].time} in {unit.value} (it is in {units[name].value})")
            result[name] = replace(outcomes[name], time=column)
    return frame, result, unit, tuple(changes)


def _units(frame: pd.DataFrame, outcomes: Mapping[str, Outcome]) -> dict[str, Guess]:
    unnamed = [outcome.time for outcome in outcomes.values() if column_names.unit_of(outcome.time) is None]
    together = pd.concat([frame[column] for column in unnamed]) if unnamed else None
    return {
        name: coding.time_unit(outcome.time, frame[outcome.time] if together is None or outcome.time not in unnamed
                               else together)
        for name, outcome in outcomes.items()
    }  # fmt: skip


def scaled(cells: "pd.Series[str]", factor: float) -> "pd.Series[str]":
    """The numbers of a column times a factor; other cells as they are, so that `ingest` names them."""
    values = pd.to_numeric(cells.where(~cells.map(is_missing)), errors="coerce")
    return cells.where(values.isna(), (values * factor).map(lambda value: f"{value:.4f}"))


def one_coding(
    frame: pd.DataFrame, outcomes: dict[str, Outcome], codings: Mapping[str, EventCoding]
) -> tuple[pd.DataFrame, dict[str, Outcome], dict[str, int], tuple[str, ...]]:
    """One meaning of each value for all end points: `ingest.event_values` has only one.

    Where a value has two meanings (1 and 2 in one column, 0 and 1 in another), the columns whose coding is not 0 and 1
    are converted to 0, 1 and 2 (a competing event). Returns the table, the columns, the values for
    `ingest.event_values`, and what was converted.
    """
    needed = {value: meaning for one in codings.values() for value, meaning in one.needed().items()}
    if all(needed.get(value, meaning) == meaning for one in codings.values() for value, meaning in one.values.items()):
        return frame, outcomes, needed, ()
    changes, result = [], dict(outcomes)
    for name, one in codings.items():
        if one.needed():
            column, source = f"{name}_observed", outcomes[name].event
            flags = {value: str(meaning) for value, meaning in one.values.items()}
            folded = frame[source].str.strip().str.casefold()
            frame = frame.assign(**{column: folded.map(flags).fillna("")})
            changes.append(f"{column}: {source} as {', '.join(map(str, sorted(set(one.values.values()))))}")
            result[name] = replace(outcomes[name], event=column)
    has_competing = any(COMPETING in one.values.values() for one in codings.values())
    return frame, result, {"0": 0, "1": 1, "2": COMPETING} if has_competing else {}, tuple(changes)
