"""Who was champion when, with changes on a day, and times that cannot be read."""

import pytest

from mcti.errors import UsageError
from mcti.registry import ledger_history
from tests.registry.trust.factories import signed_chain


def champion(at):
    """The days of the entries are 2025-05-28 to 2025-06-02, 12:00 UTC; the champions 1, 2, 1, 1, 3, 3."""
    entry = ledger_history.entry_at(signed_chain(), ledger_history.parse(at).start)
    return entry and (entry.number, entry.champion)


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2025-05-28", None),
        ("2025-05-28T11:59:59Z", None),
        ("2025-05-28T12:00:00Z", (1, 1)),
        ("2025-05-28T13:59+02:00", None),
        ("2025-05-28T14:00+02:00", (1, 1)),
        ("2025-05-29", (1, 1)),
        ("2025-05-30", (2, 2)),
        ("2025-05-31", (3, 1)),
        ("2025-06-01", (4, 1)),
        ("2025-06-02", (5, 3)),
        ("2026-01-01", (6, 3)),
    ],
)
def test_the_last_entry_until_the_time_states_the_champion(at, expected):
    assert champion(at) == expected


def test_a_day_lists_the_changes_of_the_champion_in_it():
    def numbers(at):
        return [entry.number for entry in ledger_history.changes_in(signed_chain(), ledger_history.parse(at))]

    assert numbers("2025-05-28") == [1]
    assert numbers("2025-05-31") == []  # a rejection
    assert numbers("2025-06-01") == [5]
    assert numbers("2025-06-01T13:00Z") == []  # an instant


def test_an_entry_of_a_clock_that_is_behind_does_not_precede_the_entry_before_it():
    entries = signed_chain()
    entries[1] = entries[1].model_copy(update={"time": "2025-05-28T11:58:00+00:00"})
    assert ledger_history.entry_at(entries, ledger_history.parse("2025-05-28T11:59Z").start) is None
    assert ledger_history.entry_at(entries, ledger_history.parse("2025-05-28T12:00Z").start).number == 2


@pytest.mark.parametrize("at", ["yesterday", "2025-13-01", "2025-05-28T12:00", "2999-01-01", ""])
def test_a_text_that_is_no_past_time_with_a_zone_is_refused(at):
    with pytest.raises(UsageError, match=r"write a date such as"):
        ledger_history.parse(at)
