"""Schedules of six fields; the expected values follow the documentation of robfig/cron, version 1."""

import pytest

from mcti.params import cron


def test_every_field_has_its_values():
    seconds, minutes, hours, days, months, weekdays = cron.parse("0 */20 9-17/4 ? jan-mar,9 Mon-FRI")
    assert (seconds, minutes, hours) == ({0}, {0, 20, 40}, {9, 13, 17})
    assert (days, months, weekdays) == (set(range(1, 32)), {1, 2, 3, 9}, {1, 2, 3, 4, 5})


@pytest.mark.parametrize(("field", "months"), [("2-FEB", {2}), ("JAN-2", {1, 2}), ("FEB-2", {2}), ("11-DEC", {11, 12})])
def test_a_range_may_mix_a_name_and_a_number(field, months):
    assert cron.parse(f"0 0 3 1 {field} *")[4] == months


@pytest.mark.parametrize("field", ["FEB-1", "3-FEB", "DEC-JAN", "13", "0", "FOO", "MON", "1/0", "1-2-3", "", "*-3"])
def test_an_invalid_month_is_refused(field):
    with pytest.raises(ValueError, match="no schedule of six fields: write second, minute"):
        cron.parse(f"0 0 3 1 {field} *")


@pytest.mark.parametrize(
    "text", ["0 0 3 1 *", "0 0 3 1 * * *", "60 0 3 1 * *", "0 0 24 1 * *", "0 0 3 32 * *", "0 0 3 1 * 7"]
)
def test_other_counts_of_fields_and_values_out_of_range_are_refused(text):
    with pytest.raises(ValueError, match="no schedule of six fields"):
        cron.parse(text)
