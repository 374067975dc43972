"""Next time of a schedule of six fields, with the rules of Kubeflow's controller (robfig/cron, version 1)."""

import re
from datetime import UTC, datetime, timedelta

from mcti.params import cron as schedule

_YEARS = 5


def next_time(cron: str, after: datetime) -> datetime | None:
    """The first time of `cron` (second minute hour day month weekday, UTC) after `after`; None: none in five years.

    A day must match both its fields where one of them is `*` or `?`, also with a step; otherwise one of them suffices.
    """
    fields = cron.split()
    seconds, minutes, hours, days, months, weekdays = schedule.parse(cron)
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
