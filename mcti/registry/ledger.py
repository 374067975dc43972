"""The record of who moved which alias when and why: lines that name the hash of the line before, one S3 object each.

A line is written with a conditional put under its number, so of two writers at once exactly one gets the number. The
line is written before the aliases move: what the last line says is what the aliases must be (`promotion.mend`).
The hash of the last line also stands as a tag of the registered model, so that a lost tail is noticed. The stack's
bucket keeps versions: what an edit or a deletion hid is still there.
"""

import hashlib
import json
import os
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from mcti import s3, storage
from mcti.errors import DataError, OperationalError
from mcti.registry import approvals

DEFAULT = "s3://mcti-ledger"
_FIRST = "0" * 64
SKEW = timedelta(minutes=5)
"""By so much the clocks of two machines may differ."""


class LedgerEntry(BaseModel):
    """One decision and the aliases after it; `hash` is the SHA-256 of all the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    number: int
    id: str  # random: tells our own line from a rival's when an answer got lost
    before: str  # hash of the line before
    time: str
    who: str
    action: str  # promote | reject | not-enough-evidence | rollback | repair
    model: str
    version: int  # the version judged, or rolled back to
    champion: int | None  # after the action
    previous: int | None
    evidence: dict[str, Any]
    hash: str = ""

    def sealed(self) -> Self:
        """The line with its hash."""
        return self.model_copy(update={"hash": self.seal()})

    def seal(self) -> str:
        """SHA-256 of the line without its hash, as JSON with sorted keys."""
        text = json.dumps(self.model_dump(mode="json", exclude={"hash"}), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def folder(model: str) -> str:
    """Where the lines of a model lie: MCTI_LEDGER (an s3:// address), by default the stack's own bucket."""
    return storage.join(os.environ.get("MCTI_LEDGER", DEFAULT), model, "")


def read(model: str) -> list[LedgerEntry]:
    """All lines in order; they are not checked (`verify` does that).

    Raises
        DataError: an object is no line of a ledger.
        OperationalError: S3 is in the way.
    """
    return [parse(storage.read_bytes(address), address) for address in storage.addresses(folder(model))]


def length(model: str) -> int:
    """How many lines there are."""
    return len(storage.addresses(folder(model)))


def append(lines: list[LedgerEntry], **fields: Any) -> LedgerEntry:
    """Write the next line after `lines`, as they were read.

    Raises
        s3.Conflict: somebody else wrote a line since they were read.
        OperationalError: the clock stands before the last line's time, or S3 is in the way; nothing was written.
    """
    last = lines[-1] if lines else None
    now = datetime.now(UTC)
    if last is not None and now + SKEW < datetime.fromisoformat(last.time):
        what = f"the clock says {now:%Y-%m-%d %H:%M} UTC, line {last.number} was written {last.time}"
        raise OperationalError(what, f"ledger of {last.model}", "set the clock of this machine right")
    line = LedgerEntry(
        number=last.number + 1 if last else 1,
        before=last.hash if last else _FIRST,
        id=secrets.token_hex(8),
        time=now.isoformat(timespec="seconds"),
        who=approvals.actor(),
        **fields,
    ).sealed()
    address = _address(line)
    try:
        s3.put(address, written(line), only_if_absent=True)
    except s3.Conflict:
        # The put may have arrived although its answer got lost and the client tried again.
        if parse(storage.read_bytes(address), address).id != line.id:
            raise
    return line


def faults(lines: list[LedgerEntry], head: str | None) -> list[str]:
    """Everything wrong with the chain, one sentence each; `head` is `number:hash` as the registry remembers it."""
    found, before, time = [], _FIRST, ""
    for position, line in enumerate(lines, start=1):
        name = f"line {line.number}"
        if line.number != position:
            found.append(f"line {position} is missing or out of order: line {line.number} stands in its place")
        if line.hash != line.seal():
            found.append(f"{name} was edited: its hash does not fit its contents")
        if line.before != before:
            found.append(f"{name} does not follow the line before it")
        if time and datetime.fromisoformat(line.time) + SKEW < datetime.fromisoformat(time):
            found.append(f"{name} is dated {line.time}, before the line before it ({time}): a clock was set back")
        before, time = line.hash, line.time
    last = f"{lines[-1].number}:{lines[-1].hash}" if lines else None
    if head and head != last and not _beyond(lines, head):
        found.append(
            f"the registry remembers line {head.partition(':')[0]} with another hash: lines were lost or rewritten"
        )
    return found


def _beyond(lines: list[LedgerEntry], head: str) -> bool:
    """Whether the remembered head is an earlier line: a writer was cut off before it could remember its own."""
    number, _, known = head.partition(":")
    return any(str(line.number) == number and line.hash == known for line in lines)


def _address(line: LedgerEntry) -> str:
    return f"{folder(line.model)}{line.number:08d}.json"


def parse(body: bytes, address: str) -> LedgerEntry:
    """A line from the bytes of its object, which must be the very ones that `append` writes.

    Raises
        DataError: they are not; another spelling of the same values counts as an edit, too.
    """
    hint = "restore the object from its former version or from the bucket's backup"
    try:
        line = LedgerEntry.model_validate_json(body)
        if datetime.fromisoformat(line.time).tzinfo is None:
            raise ValueError(f"time {line.time} names no time zone")
    except ValidationError as error:
        raise DataError(f"no line of a ledger ({error.errors()[0]['msg']})", address, hint) from None
    except ValueError as error:
        raise DataError(f"no line of a ledger ({error})", address, hint) from None
    if written(line) != body:
        raise DataError("the line was edited: its bytes are not as they were written", address, hint)
    return line


def written(line: LedgerEntry) -> bytes:
    """The bytes of a line's object."""
    return storage.to_json(line.model_dump(mode="json")).encode()
