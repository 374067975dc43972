"""Signatures of ledger entries: which key wrote each entry, and from which entry on the ledger is signed.

The signature is part of the entry. It covers the hash of the entry, and so by `before` every earlier entry: unsigned
entries of an earlier version of mcti are pinned by the first signed one.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from mcti.registry import gates
from mcti.registry.ledger import LedgerEntry
from mcti.registry.promotion import SIGN
from mcti.registry.trust import envelope, statement_time
from mcti.registry.trust.envelope import InvalidDocument
from mcti.registry.trust.trust_file import Role, TrustFile

PREDICATE = "urn:mcti:ledger-entry:v1"
_FIELDS = ("model", "number", "before", "action", "version", "champion", "previous")
_BY_GATES = (gates.PROMOTE, gates.REJECT, gates.NOT_ENOUGH_EVIDENCE)
EntryState = Literal["verified", "unsigned", "unknown", "broken"]


class EntrySignature(NamedTuple):
    """The signature of one entry; signer: id of its key in the trust file."""

    state: EntryState
    signer: str = ""
    note: str = ""


def role_of(action: str) -> Role:
    """The role that a key needs to sign an entry: `gate` for the decisions of the gates, `ledger` for all others."""
    return "gate" if action in _BY_GATES else "ledger"


def payload(entry: LedgerEntry) -> bytes:
    """The statement to sign: the hash of an entry and its fields without evidence and person."""
    subject = [{"name": f"ledger of {entry.model}, entry {entry.number}", "digest": {"sha256": entry.hash}}]
    predicate = {name: getattr(entry, name) for name in _FIELDS} | {"signed_at": entry.time}
    return envelope.payload_of(subject, PREDICATE, predicate)


def check(entry: LedgerEntry, trust: TrustFile) -> EntrySignature:
    """The signature of an entry against its fields, the trust file, and what its key may sign."""
    if entry.signature is None:
        return EntrySignature("unsigned", note="it has no signature")
    try:
        document = envelope.from_bundle(entry.signature)
        if document.payload != payload(entry):
            return EntrySignature("broken", note="the signature is of another entry, or the entry was edited")
        result = trust.check(document, role_of(entry.action), statement_time.parse(entry.time))
    except InvalidDocument as error:
        return EntrySignature("broken", note=str(error))
    return EntrySignature(result.state, result.signer, result.note)


def summary(entries: Sequence[LedgerEntry], checks: Sequence[EntrySignature]) -> EntrySignature:
    """The state of the whole ledger.

    Entries before the last verified `sign` entry, and unsigned ones before the first signed one, are pinned by it:
    they do not change the state, and the note counts those that are not verified themselves.
    """
    pinned = _pinned(entries, checks)
    decisive = list(zip(entries, checks, strict=True))[pinned:]
    states: tuple[EntryState, ...] = ("broken", "unknown", "unsigned")
    for state in states:
        failed = [f"entry {entry.number}: {one.note}" for entry, one in decisive if one.state == state]
        if state == "unsigned" and failed:
            return EntrySignature(state, note="no entry is signed; `mcti ledger sign` adds one that pins them")
        if failed:
            return EntrySignature(state, note="; ".join(failed[:3]))
    signers = ", ".join(sorted({one.signer for _, one in decisive}))
    unverified = sum(one.state != "verified" for one in checks[:pinned])
    note = f"{unverified} entries before entry {pinned + 1} have no verified signature; entry {pinned + 1} pins them"
    return EntrySignature("verified", signers, note if unverified else "")


def _pinned(entries: Sequence[LedgerEntry], checks: Sequence[EntrySignature]) -> int:
    """The number of leading entries that a later signature pins."""
    pairs = list(zip(entries, checks, strict=True))
    signed = [n for n, (entry, one) in enumerate(pairs) if entry.action == SIGN and one.state == "verified"]
    first = next((n for n, (_, one) in enumerate(pairs) if one.state != "unsigned"), 0)
    return max([first, *signed])
