"""Who was champion when: the aliases of a model at a time, from its ledger."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from mcti.errors import UsageError
from mcti.registry.ledger import LedgerEntry


class Period(NamedTuple):
    """A day, or an instant with start = end."""

    start: datetime
    end: datetime


def parse(text: str) -> Period:
    """The period of a date (2026-05-01: the day in UTC), or of a time with its zone (2026-05-01T12:00Z: an instant).

    Raises UsageError when it has another form, no zone, or is in the future.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        _refuse(f"{text!r} is neither a date nor a time")
    is_date = len(text) <= len("2026-05-01")
    if time.tzinfo is None and not is_date:
        _refuse(f"{text!r} has no time zone")
    start = time.replace(tzinfo=UTC) if is_date else time
    if start > datetime.now(UTC):
        _refuse(f"{text} is in the future")
    return Period(start, start + timedelta(days=1) if is_date else start)


def _refuse(what: str) -> None:
    hint = "write a date such as 2026-05-01, or a time with its zone such as 2026-05-01T12:00Z"
    raise UsageError(what, "--at", hint)


def entry_at(entries: Sequence[LedgerEntry], time: datetime) -> LedgerEntry | None:
    """The last entry until a time, which states the aliases then; None: there is none."""
    return next((entry for at, entry in reversed(list(_timed(entries))) if at <= time), None)


def changes_in(entries: Sequence[LedgerEntry], period: Period) -> list[LedgerEntry]:
    """The entries of a period, after its start, that changed the champion."""
    changes, champion = [], None
    for at, entry in _timed(entries):
        if entry.champion != champion and period.start < at <= period.end:
            changes.append(entry)
        champion = entry.champion
    return changes


def _timed(entries: Sequence[LedgerEntry]) -> Iterator[tuple[datetime, LedgerEntry]]:
    """Each entry with the latest time until it: the chain decides the order, and clocks may differ by minutes."""
    latest = datetime.min.replace(tzinfo=UTC)
    for entry in entries:
        latest = max(latest, datetime.fromisoformat(entry.time))
        yield latest, entry
