"""Next times of a schedule; the expected ones were determined with a calendar."""

from datetime import UTC, datetime

import pytest

from mcti.pipelines.cron import next_time

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)  # a Tuesday


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        ("0 0 3 1 * *", "2026-12-01 03:00:00"),
        ("0 0 3 24 * *", "2026-12-24 03:00:00"),  # 03:00 of the same day is past
        ("0 30 12 * * ?", "2026-11-24 12:30:00"),
        ("0 0 12 * * *", "2026-11-25 12:00:00"),  # strictly later
        ("*/15 * * * * *", "2026-11-24 12:00:15"),
        ("0 0 4 * * MON", "2026-11-30 04:00:00"),
        ("0 0 4 * * 0", "2026-11-29 04:00:00"),  # Sunday
        ("0 0 4 13 * FRI", "2026-11-27 04:00:00"),  # either: a Friday, or a 13th
        ("0 0 4 */2 * SUN", "2026-11-29 04:00:00"),  # both, since one of the fields contains a star
        ("0 0 4 29 2 *", "2028-02-29 04:00:00"),
        ("0 0 4 31 JAN-MAR *", "2027-01-31 04:00:00"),
        ("0 0 9-17/4 * * MON-FRI", "2026-11-24 13:00:00"),
        ("0 5,35 8 1 1,7 *", "2027-01-01 08:05:00"),
        ("0 50/5 23 * * *", "2026-11-24 23:50:00"),
    ],
)
def test_next_time(cron, expected):
    assert next_time(cron, NOW).strftime("%Y-%m-%d %H:%M:%S") == expected


def test_an_impossible_date_has_no_next_time():
    assert next_time("0 0 4 31 2 *", NOW) is None
