"""Next time of a schedule of six fields, with the rules of Kubeflow's controller (robfig/cron, version 1)."""

import calendar
import re
from datetime import UTC, datetime, timedelta

_MONTHS = {name.upper(): number for number, name in enumerate(calendar.month_abbr) if name}
_WEEKDAYS = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))}
_BOUNDS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_YEARS = 5


def next_time(cron: str, after: datetime) -> datetime | None:
    """The first time of `cron` (second minute hour day month weekday, UTC) after `after`; None: none in five years.

    A day must match both its fields where one of them is `*` or `?`, also with a step; otherwise one of them suffices.
    """
    fields = cron.upper().split()
    seconds, minutes, hours, days, months, weekdays = (_values(*pair) for pair in zip(fields, _BOUNDS, strict=True))
    both = any(re.search(r"(^|,)[*?]", field) for field in (fields[3], fields[5]))
    start = after.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
    for offset in range(_YEARS * 366):
        day = (start + timedelta(days=offset)).date()
        matches = (day.day in days, (day.weekday() + 1) % 7 in weekdays)
        if day.month not in months or not (all(matches) if both else any(matches)):
            continue
        earliest = start.time() if offset == 0 else datetime.min.time()
        time_of_day = next(
            (
                (hour, minute, second)
                for hour in sorted(hours)
                for minute in sorted(minutes)
                for second in sorted(seconds)
                if (hour, minute, second) >= (earliest.hour, earliest.minute, earliest.second)
            ),
            None,
        )
        if time_of_day is not None:
            return datetime(day.year, day.month, day.day, *time_of_day, tzinfo=UTC)
    return None


def _values(field: str, bounds: tuple[int, int]) -> set[int]:
    """The values that a field matches: a list of values, ranges and steps."""
    values: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        low, high = bounds if first in ("*", "?") else (_number(first), _number(last or first))
        if step and not last and first not in ("*", "?"):  # N/step extends to the largest value of the field
            high = bounds[1]
        values |= set(range(low, high + 1, int(step or 1)))
    return values


def _number(word: str) -> int:
    return next((names[word] for names in (_MONTHS, _WEEKDAYS) if word in names), int(word) if word.isdigit() else 0)
