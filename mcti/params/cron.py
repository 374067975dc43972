"""Schedules of six fields, with the rules of Kubeflow's controller (robfig/cron, version 1)."""

import calendar
import re
from collections.abc import Mapping

_MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}  # JAN is 1
_WEEKDAYS = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))}
_FIELDS: tuple[tuple[int, int, Mapping[str, int]], ...] = (
    (0, 59, {}),
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, _MONTHS),
    (0, 6, _WEEKDAYS),
)
"""Smallest and largest value of each field, and the names that it accepts for its values."""
_PART = re.compile(r"(?:[*?]|(?P<first>[A-Z]{3}|\d{1,2})(?:-(?P<last>[A-Z]{3}|\d{1,2}))?)(?:/(?P<step>[1-9]\d*))?")


def parse(expression: str) -> tuple[set[int], ...]:
    """The values that each field matches: second, minute, hour, day, month (1-12), weekday (0 is Sunday).

    Raises ValueError when the expression does not have six fields, or a field has an invalid value or range
    """
    texts = expression.upper().split(" ")
    try:
        return tuple(_values(text, *field) for text, field in zip(texts, _FIELDS, strict=True))
    except ValueError:
        hint = "write second, minute, hour, day, month, weekday (0-6 or SUN-SAT), such as 0 0 3 1 * *"
        raise ValueError(f"{expression!r} is no schedule of six fields: {hint}") from None


def _values(text: str, smallest: int, largest: int, names: Mapping[str, int]) -> set[int]:
    """The values of a field: a list of values, ranges and steps."""
    values: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(part)
        first, last, step = match["first"], match["last"], match["step"]
        low = smallest if first is None else _number(first, names)
        high = largest if first is None else _number(last or first, names)
        if step and first is not None and last is None:  # N/step extends to the largest value of the field
            high = largest
        if not smallest <= low <= high <= largest:
            raise ValueError(part)
        values |= set(range(low, high + 1, int(step or 1)))
    return values


def _number(text: str, names: Mapping[str, int]) -> int:
    """A value by its name or its digits; ValueError for another text."""
    return names[text] if text in names else int(text)
