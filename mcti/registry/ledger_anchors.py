"""Anchors of a ledger: number and hash of entries, stored outside of it, so that a rewritten whole ledger is detected.

The holder of a signing key who may write to the ledger's bucket and to MLflow can write another consistent ledger. An
anchor of an entry of the former one then differs. Three forms:

* the tag of the registered model in MLflow (promotion.py): the last entry only
* one object per entry below MCTI_LEDGER_ANCHORS (s3://…), with number and hash in its name, in a bucket with object
  lock where the store has it; a listing with all versions shows them, even after a deletion
* a printed text (`mcti ledger anchor`), compared by `mcti ledger verify --anchor`
"""

import contextlib
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from mcti import s3, storage
from mcti.errors import UsageError
from mcti.registry.ledger import LedgerEntry

VARIABLE = "MCTI_LEDGER_ANCHORS"
_NAME = re.compile(r"(?P<number>\d{8})-(?P<hash>[0-9a-f]{64})\.txt")
_TEXT = re.compile(r"(?P<number>[1-9]\d{0,7}):(?P<hash>[0-9a-f]{64})")


class Anchor(NamedTuple):
    """Number and hash of an entry; source: where they are stored."""

    number: int
    hash: str
    source: str


class AnchorStore(BaseModel):
    """The anchors of a ledger in S3. locked: whether their bucket refuses to erase them; None: unknown."""

    model_config = ConfigDict(frozen=True)
    address: str
    number: int
    locked: bool | None

    def described(self) -> str:
        """A part of a sentence."""
        locks: dict[bool | None, str] = {True: "locked", False: "not locked: they can be erased", None: "lock unknown"}
        return f"{self.number} anchors in {self.address} ({locks[self.locked]})"


def folder(model: str) -> str:
    """The address of the anchors of a model; "" where none is configured."""
    address = os.environ.get(VARIABLE)
    return storage.join(address, model, "") if address else ""


def store(entry: LedgerEntry) -> None:
    """Write the anchor of an entry, if an address is configured; an anchor that exists is kept.

    Raises OperationalError when S3 is unavailable.
    """
    address = folder(entry.model)
    if address:
        name = f"{entry.number:08d}-{entry.hash}.txt"
        # The same name has the same contents. Without the condition, a locked bucket would keep one version per write.
        with contextlib.suppress(s3.Conflict):
            s3.put(address + name, printed(entry).encode(), only_if_absent=True)


def read(model: str) -> list[Anchor]:
    """All anchors that were ever stored in S3, also those that were deleted or replaced; empty without an address.

    Raises OperationalError when S3 is unavailable.
    """
    address = folder(model)
    names = [key.removeprefix(address) for key in s3.addresses_of_all_versions(address)] if address else []
    matches = [match for name in names if (match := _NAME.fullmatch(name))]
    return [Anchor(int(match["number"]), match["hash"], f"{address}{match[0]}") for match in matches]


def store_of(model: str, anchors: Sequence[Anchor]) -> AnchorStore | None:
    """The store of the anchors of a model, as `read` gave them; None where no address is configured.

    Raises OperationalError when S3 is unavailable.
    """
    address = folder(model)
    if not address:
        return None
    return AnchorStore(address=address, number=len(anchors), locked=s3.has_object_lock(address))


def parse(text: str) -> Anchor:
    """The anchor in a text as printed: NUMBER:HASH, in which blanks and line breaks do not count.

    Raises UsageError when it has another form.
    """
    match = _TEXT.fullmatch("".join(text.split()).lower())
    if match is None:
        hint = "write NUMBER:HASH, the last line of `mcti ledger anchor`; the hash has 64 characters 0-9 and a-f"
        raise UsageError("the text is not an anchor", "--anchor", hint)
    return Anchor(int(match["number"]), match["hash"], "--anchor")


def printed(entry: LedgerEntry) -> str:
    """The anchor of an entry as a text for a protocol on paper; the hash in groups of eight characters."""
    groups = " ".join(entry.hash[start : start + 8] for start in range(0, 64, 8))
    champion = "none" if entry.champion is None else f"version {entry.champion}"
    facts = f"Ledger of {entry.model}, entry {entry.number} of {entry.time}: {entry.action}, champion {champion}"
    return f"{facts}\n{entry.number}:{groups}\n"


def find_faults(entries: Sequence[LedgerEntry], anchors: Sequence[Anchor]) -> list[str]:
    """Every anchor that the ledger contradicts, one sentence each; `entries` may begin at a later number than 1."""
    hashes = {entry.number: entry.hash for entry in entries}
    first, last = (entries[0].number, entries[-1].number) if entries else (1, 0)
    faults = []
    for anchor in anchors:
        if anchor.number > last:
            faults.append(f"the anchor in {anchor.source} is of entry {anchor.number}, which the ledger has lost")
        elif anchor.number >= first and hashes.get(anchor.number) != anchor.hash:
            what = f"the anchor in {anchor.source} has another hash of entry {anchor.number}"
            faults.append(f"the ledger was rewritten: {what}")
    return faults
