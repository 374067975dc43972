"""The first months of the half-year on real servers (docs/half-year.md): each comes to what it must."""

import os

import pytest

from mcti.local import settings, stack
from tests.stack.half_year import MONTHS, HalfYear

pytestmark = [pytest.mark.slow, pytest.mark.stack]


@pytest.fixture(scope="module")
def months(tmp_path_factory):
    place, before = tmp_path_factory.mktemp("half a year") / "a project", dict(os.environ)
    year = HalfYear.begin(place)
    stack.up(place)
    try:
        settings.activate(place, force=True)
        for live in MONTHS[:2]:
            live(year)
        return {month.number: month for month in year.months}
    finally:
        stack.down(place)
        os.environ.clear()
        os.environ.update(before)


def test_month_1_makes_the_first_champion(months):
    assert months[1].exits == {"dvc repro": 0, "promote": 0}
    assert (months[1].champion, months[1].versions, months[1].lines) == (1, 1, 1)


def test_month_2_without_new_data_changes_no_hash_and_no_line(months):
    assert months[2].rule == "none"
    assert months[2].exits == {"dvc repro": 0, "promote": 0}
    assert months[2].numbers["promote"]["outcome"] == "unchanged"
    assert months[2].hashes == months[1].hashes
    assert len(months[2].hashes) >= 10
    assert (months[2].champion, months[2].versions, months[2].lines) == (1, 1, 1)


def test_the_ledger_is_whole_after_every_month(months):
    assert all(month.faults == [] for month in months.values())
    assert [month.lines for month in months.values()] == sorted(month.lines for month in months.values())
