"""The ledger: who moved which alias, when and why. One S3 object per entry, each with the hash of the entry before.

An entry is written with a conditional put under its number, so of two concurrent writers exactly one gets the number.
The entry is written before the aliases move: the aliases must be those of the last entry (`promotion.repair`). The hash
of the last entry is also a tag of the registered model, so that lost entries are detected. The bucket of the local
stack keeps versions: the objects before an edit or a deletion can be restored.
"""

import contextlib
import gc
import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from mcti import s3, storage
from mcti.errors import DataError, OperationalError, UsageError
from mcti.registry import actor, canonical_json, ledger_packs

DEFAULT = "s3://mcti-ledger"
MAX_CLOCK_SKEW = timedelta(minutes=5)
"""Accepted difference between the clocks of two machines."""
ALIASES = ("champion", "previous")
"""The aliases that the entries of a ledger give to versions."""
HEAD = "mcti.ledger_head"
"""Tag of a registered model: `number:hash` of the last entry."""
_NO_HASH = "0" * 64  # `before` of the first entry
_HINT = "restore the object from its earlier version or from the bucket's backup"


class LedgerEntry(BaseModel):
    """One decision and the aliases after it; `hash` is the SHA-256 of all fields but `hash` and `signature`.

    id        random: identifies our own entry when the response of its put was lost
    before    hash of the entry before
    action    promote | reject | not-enough-evidence | rollback | repair | sign
    version   the version that was evaluated, or rolled back to; of `sign`: the champion, 0 without one
    champion, previous  the aliases after the action
    signature  Sigstore bundle over the hash and the fields without `evidence` (trust/ledger_signatures.py); None:
              the writer had no key
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    number: int
    id: str
    before: str
    time: str
    who: str
    action: str
    model: str
    version: int
    champion: int | None
    previous: int | None
    evidence: dict[str, Any]
    hash: str = ""
    signature: dict[str, Any] | None = None

    def with_hash(self) -> Self:
        """The entry with its hash."""
        return self.model_copy(update={"hash": self.computed_hash()})

    def computed_hash(self) -> str:
        """SHA-256 of the entry without hash and signature, as JSON with sorted keys."""
        fields = {name: value for name, value in self if name not in {"hash", "signature"}}
        text = json.dumps(fields, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()


def folder(model: str) -> str:
    """The folder of the entries of a model: below MCTI_LEDGER (an s3:// address), by default the stack's bucket."""
    return storage.join(os.environ.get("MCTI_LEDGER", DEFAULT), model, "")


def read(model: str) -> list[LedgerEntry]:
    """All entries in order; `find_faults` checks them.

    Raises
    DataError when an object is not an entry of a ledger.
    OperationalError when S3 is unavailable.
    """
    bodies = ledger_packs.read(folder(model))
    with without_garbage_collection():
        return [parse(body, address) for address, body in bodies.items()]


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Entries contain no reference cycles; the collector would traverse all of them again and again, which takes as
    long as parsing them.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def length(model: str) -> int:
    """The number of entries."""
    return len(storage.addresses(folder(model)))


def head(client: Any, model: str) -> str | None:
    """`number:hash` of the last entry, as MLflow stores it; None: there is none."""
    tags = client.get_registered_model(model).tags
    return str(tags[HEAD]) if HEAD in tags else None


def number_of(head: str | None) -> int:
    """The number of the entry of a head; 0: the head is missing or malformed."""
    number = (head or "").partition(":")[0]
    return int(number) if re.fullmatch(r"[1-9]\d{0,7}", number, re.ASCII) else 0


def last(model: str, head: str | None) -> LedgerEntry | None:
    """The last entry; None: there is none, or no entry since that of `head`. The chain is not checked.

    head  as of `head`: entries before its own are not listed

    Raises
    DataError when the object is not an entry, or its contents are not those of its hash.
    OperationalError when S3 is unavailable.
    """
    listed_from = max(number_of(head) - 1, 0)
    addresses = s3.addresses(folder(model), after=_address_of(model, listed_from))
    if not addresses:
        return None
    entry = parse(storage.read_bytes(addresses[-1]), addresses[-1])
    if entry.hash != entry.computed_hash():
        raise DataError(f"entry {entry.number} was edited: its hash does not match its contents", addresses[-1], _HINT)
    return entry


def alias_faults(entry: LedgerEntry, alias: str, number: int | None, head: str | None) -> list[str]:
    """A fault if the last entry does not give the alias to version `number`, although MLflow did when it was read.

    A reader that finds none has the value of the last entry: MLflow cannot move an alias on a condition, so between an
    entry and the move of its alias, or after a writer that was suspended there, the alias may be that of an earlier
    entry.

    head  as of `head`
    """
    expected = {"champion": entry.champion, "previous": entry.previous}
    if alias not in expected or expected[alias] == number:
        return []
    cause = cause_of_difference(entry, head)
    states = f"{version_name(number)}, in the ledger {version_name(expected[alias])}"
    return [f"alias {alias} was {states}: {cause}"]


def cause_of_difference(last: LedgerEntry, head: str | None) -> str:
    """Why an alias differs from the last entry; the writer of an entry stores its head after the aliases."""
    if number_of(head) < last.number:
        command = f"the command of entry {last.number} ({last.action})"
        return f"{command} was interrupted or is in progress, or it was moved manually"
    return "it moved meanwhile, or manually"


def repair_hint(name: str) -> str:
    """What to do where the aliases differ from the ledger."""
    repair = f"`mcti promote --name {name} --repair` sets the aliases to the state in the ledger"
    return f"see `mcti ledger verify --name {name}`; {repair}"


def append(
    entries: list[LedgerEntry], *, sign: Callable[[LedgerEntry], LedgerEntry] | None = None, **fields: Any
) -> LedgerEntry:
    """Write the next entry after `entries`, as they were read.

    sign  the entry with its signature: where signing fails, there is no entry

    Raises
    s3.Conflict when another writer added an entry since they were read.
    UsageError when the last entry is signed and this one would not be; nothing was written.
    OperationalError when the clock is before the time of the last entry, or S3 is unavailable; nothing was written.
    """
    last = entries[-1] if entries else None
    now = datetime.now(UTC)
    if last is not None and now + MAX_CLOCK_SKEW < datetime.fromisoformat(last.time):
        what = f"the clock shows {now:%Y-%m-%d %H:%M} UTC, before entry {last.number} of {last.time}"
        raise OperationalError(what, f"ledger of {last.model}", "correct the clock of this machine")
    entry = LedgerEntry(
        number=last.number + 1 if last else 1,
        before=last.hash if last else _NO_HASH,
        id=secrets.token_hex(8),
        time=now.isoformat(timespec="seconds"),
        who=actor.current(),
        **fields,
    )
    # As it will be read: with lists in place of tuples.
    entry = LedgerEntry.model_validate(entry.model_dump(mode="json")).with_hash()
    if sign is not None:
        entry = sign(entry)
    if last is not None and last.signature and not entry.signature:
        hint = "set a signing key (docs/registry.md, Signatures): an unsigned entry after a signed one is a fault"
        raise UsageError(
            f"entry {last.number} is signed, and no signing key is configured", f"ledger of {last.model}", hint
        )
    address = _address(entry)
    try:
        s3.put(address, to_bytes(entry), only_if_absent=True)
    except s3.Conflict:
        # The put may have succeeded although its response was lost and the client tried again.
        if parse(storage.read_bytes(address), address).id != entry.id:
            raise
    return entry


def find_faults(entries: list[LedgerEntry], head: str | None, *, partial: bool = False) -> list[str]:
    """Every fault of the chain, one sentence each; `head` is `number:hash` of the last entry in the registry's tag.

    partial  the entries are the end of a chain: their first one may have any number
    """
    faults, before, time, signed = [], _NO_HASH, "", 0
    start = 1
    if partial and entries:
        start, before = entries[0].number, entries[0].before
    for position, entry in enumerate(entries, start=start):
        name = f"entry {entry.number}"
        if entry.number != position:
            faults.append(f"entry {position} is missing or out of order: entry {entry.number} is in its position")
        if entry.hash != entry.computed_hash():
            faults.append(f"{name} was edited: its hash does not match its contents")
        if entry.before != before:
            faults.append(f"{name} does not follow the entry before it")
        if time and datetime.fromisoformat(entry.time) + MAX_CLOCK_SKEW < datetime.fromisoformat(time):
            faults.append(f"{name} is dated {entry.time}, before the entry before it ({time}): a clock was set back")
        if signed and not entry.signature:
            faults.append(f"{name} has no signature, but entry {signed} before it has one")
        before, time, signed = entry.hash, entry.time, signed or (entry.number if entry.signature else 0)
    last = f"{entries[-1].number}:{entries[-1].hash}" if entries else None
    if head and head != last and not _is_earlier(entries, head):
        number = head.partition(":")[0]
        faults.append(f"the registry stores another hash of entry {number}: entries were lost or rewritten")
    return faults


def _is_earlier(entries: list[LedgerEntry], head: str) -> bool:
    """Whether the stored head is an earlier entry: a writer was interrupted before it could store its own."""
    number, _, stored = head.partition(":")
    return any(str(entry.number) == number and entry.hash == stored for entry in entries)


def version_name(version: int | None) -> str:
    """The version of an alias in a message; None: it has none."""
    return "not set" if version is None else f"version {version}"


def _address(entry: LedgerEntry) -> str:
    return _address_of(entry.model, entry.number)


def _address_of(model: str, number: int) -> str:
    return f"{folder(model)}{number:08d}.json"


def parse(body: bytes, address: str) -> LedgerEntry:
    """An entry from the bytes of its object, which must be exactly those that `append` writes.

    Raises DataError otherwise: other bytes for the same values also count as an edit.
    """
    try:
        entry = LedgerEntry.model_validate_json(body)
        if datetime.fromisoformat(entry.time).tzinfo is None:
            raise ValueError(f"time {entry.time} has no time zone")
    except ValidationError as error:
        raise DataError(f"not a ledger entry ({error.errors()[0]['msg']})", address, _HINT) from None
    except ValueError as error:
        raise DataError(f"not a ledger entry ({error})", address, _HINT) from None
    if to_bytes(entry) != body:
        raise DataError("the entry was edited: its bytes are not as they were written", address, _HINT)
    return entry


def to_bytes(entry: LedgerEntry) -> bytes:
    """The bytes of the object of an entry."""
    return canonical_json.to_bytes({name: value for name, value in entry if name != "signature" or value})
