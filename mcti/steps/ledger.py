"""The ledger: print, verify, sign and export it, and who was champion at a time."""

from pathlib import Path

from mcti import s3, storage
from mcti.errors import DataError, Untrusted, UsageError
from mcti.params import TrustParams
from mcti.registry import ledger, ledger_anchors, ledger_history, ledger_table, promotion, tracking
from mcti.registry.ledger import LedgerEntry
from mcti.registry.ledger_anchors import Anchor
from mcti.registry.trust import keys, ledger_signatures, signing, trust_file
from mcti.registry.trust.ledger_signatures import EntrySignature, EntryState
from mcti.steps.result import StepResult


class LedgerResult(StepResult):
    """The ledger of a model. `faults` is empty when every entry and every alias is unchanged since it was written.

    versioned  whether its bucket keeps earlier versions of its objects; None: unknown
    anchors  the anchors in S3; None: no address of anchors is configured
    signatures  of each entry
    signature  of the whole ledger: it may be verified although early entries are unsigned
    """

    name: str
    entries: tuple[LedgerEntry, ...]
    faults: tuple[str, ...]
    versioned: bool | None
    anchors: ledger_anchors.AnchorStore | None
    signatures: tuple[EntrySignature, ...]
    signature: EntrySignature

    def lines(self) -> list[str]:
        """Human-readable output: one line per decision, then the faults."""
        rows = [_row(entry, signature) for entry, signature in zip(self.entries, self.signatures, strict=True)]
        faults = [f"FAULT {fault}" for fault in self.faults]
        return [*rows, *faults, self.total()]

    def total(self) -> str:
        """The last line: numbers of entries and faults, and the state of bucket and signatures."""
        unversioned = "; the bucket is not versioned: an edited entry could not be restored"
        signature = f"; signatures: {_described(self.signature)}" if self.entries else ""
        total = f"{len(self.entries)} entries, {len(self.faults)} faults"
        anchors = f"; {self.anchors.described()}" if self.anchors else ""
        return f"{total}{unversioned if self.versioned is False else ''}{signature}{anchors}"


class ChampionResult(StepResult):
    """The champion at a time. entry: of the ledger that set it; 0: there was none; changes: of the champion on the day

    signature  of the whole ledger;  faults  of the ledger: with any, the answer is not reliable
    """

    name: str
    at: str
    champion: int | None
    previous: int | None
    entry: int
    since: str
    who: str
    changes: tuple[str, ...]
    faults: tuple[str, ...]
    signature: EntrySignature

    def lines(self) -> list[str]:
        """Human-readable output: the champion, its changes on the day, then the faults."""
        champion = "no champion" if self.champion is None else f"champion version {self.champion}"
        since = f" (entry {self.entry} of {self.since}, by {self.who})" if self.entry else " (no entry until then)"
        faults = [f"FAULT {fault}" for fault in self.faults]
        return [f"{self.name} at {self.at}: {champion}{since}; signatures: {_described(self.signature)}",
                *self.changes, *faults]  # fmt: skip


class AnchorResult(StepResult):
    """The anchor of the last entry: for a protocol on paper, and later `mcti ledger verify --anchor`."""

    name: str
    number: int
    hash: str
    text: str

    def lines(self) -> list[str]:
        """Human-readable output: the entry, then its anchor."""
        return self.text.splitlines()


class ExportResult(StepResult):
    """The exported ledger. exit_code: 3 when it has faults, which are listed."""

    name: str
    rows: int
    faults: tuple[str, ...]
    signature: EntrySignature
    exit_code: int

    def lines(self) -> list[str]:
        """Human-readable output: number of rows and the state of the signatures, then the faults."""
        total = f"{self.name}: {self.rows} rows, {len(self.faults)} faults; signatures: {_described(self.signature)}"
        return [total, *(f"FAULT {fault}" for fault in self.faults)]


class SignResult(StepResult):
    """The entry that pins the ledger before it, and the number of entries in each state of signature."""

    name: str
    ledger_entry: int
    pinned: dict[EntryState, int]


@ledger.without_garbage_collection()
def show_ledger(name: str, trust: TrustParams | None = None, *, anchor: str | None = None) -> LedgerResult:
    """All entries, their faults and their signatures.

    trust   the trust file of the site
    anchor  a printed anchor to compare

    Raises
    UsageError when the text is not an anchor.
    DataError when there is no such model.
    """
    printed = [ledger_anchors.parse(anchor)] if anchor else []
    entries, faults, anchors = _read(name)
    faults += ledger_anchors.find_faults(entries, printed)
    signatures, signature = _signatures(entries, trust)
    return LedgerResult(
        name=name,
        entries=tuple(entries),
        faults=tuple(faults),
        versioned=s3.has_versioning(ledger.folder(name)),
        anchors=ledger_anchors.store_of(name, anchors),
        signatures=tuple(signatures),
        signature=signature,
    )


def verify_ledger(name: str, trust: TrustParams | None = None, *, anchor: str | None = None) -> LedgerResult:
    """The ledger, if it is complete, agrees with aliases and anchors, and its signatures satisfy the policy.

    anchor  as in `show_ledger`

    Raises
    UsageError when the text is not an anchor.
    DataError with every entry that was edited, lost or reordered or has a broken signature, and every alias that was
    moved manually.
    Untrusted when `trust.require` is not `none` and the ledger is unsigned, or a key not trusted.
    """
    result = show_ledger(name, trust, anchor=anchor)
    where = f"ledger of {name}"
    hint = f"`mcti promote --name {name} --repair` repairs aliases; restore altered entries from a backup"
    if result.faults:
        raise DataError("; ".join(result.faults), where, f"{hint} of the bucket")
    if result.signature.state == "broken":
        raise DataError(result.signature.note, where, f"{hint}; if a key was revoked: `mcti ledger sign`")
    if result.signature.state != "verified" and trust is not None and trust.require != "none":
        hint = "`mcti ledger sign` pins unsigned entries; trusted keys are in the file trust.keys"
        raise Untrusted(_described(result.signature), where, hint)
    return result


def champion_at(name: str, at: str, trust: TrustParams | None = None) -> ChampionResult:
    """Which version was the champion at a time, and with a date, the changes of that day (UTC).

    at  as in `ledger_history.parse`

    Raises
    UsageError when the time cannot be read.
    DataError when there is no such model.
    """
    period = ledger_history.parse(at)
    entries, faults, _ = _read(name)
    entry = ledger_history.entry_at(entries, period.start)
    changes = [f"changed: {_row(change)}" for change in ledger_history.changes_in(entries, period)]
    return ChampionResult(
        name=name,
        at=period.start.isoformat(timespec="seconds"),
        champion=entry.champion if entry else None,
        previous=entry.previous if entry else None,
        entry=entry.number if entry else 0,
        since=entry.time if entry else "",
        who=entry.who if entry else "",
        changes=tuple(changes),
        faults=tuple(faults),
        signature=_signatures(entries, trust)[1],
    )


def last_anchor(name: str) -> AnchorResult:
    """The anchor of the last entry, if the ledger has no fault; stored in S3 again where it is missing.

    Raises DataError when the ledger has a fault, or no entry.
    """
    with tracking.service() as client:
        entries = promotion.verified_entries(client, name)
    if not entries:
        raise DataError("the ledger has no entry", f"ledger of {name}", "promote a version first")
    last = entries[-1]
    ledger_anchors.store(last)
    return AnchorResult(name=name, number=last.number, hash=last.hash, text=ledger_anchors.printed(last))


def export_ledger(name: str, out: Path, trust: TrustParams | None = None) -> ExportResult:
    """Write the ledger as CSV for auditors; with faults as well, which the result lists.

    Raises
    DataError when there is no such model.
    OperationalError when the file cannot be written.
    """
    entries, faults, _ = _read(name)
    signatures, signature = _signatures(entries, trust)
    storage.write_text(out, ledger_table.to_csv(entries, signatures))
    return ExportResult(
        name=name, rows=len(entries), faults=tuple(faults), signature=signature,
        exit_code=DataError.exit_code if faults or signature.state == "broken" else 0,
    )  # fmt: skip


def sign_ledger(name: str, reason: str, trust: TrustParams) -> SignResult:
    """Add a signed entry that pins all entries before it: of a ledger without signatures, or after a revoked key.

    Raises
    UsageError when no key or no reason is given.
    Untrusted when the trust file does not let the key sign it.
    DataError when ledger and aliases disagree, or the ledger is empty.
    """
    signer = keys.from_environment()
    if signer is None:
        raise UsageError("no signing key is configured", keys.KEY, "see docs/registry.md, Signatures")
    if not reason.strip():
        raise UsageError("no reason is given", "--reason", "state what was reviewed: the entry records it")
    with tracking.service() as client:
        entries = promotion.verified_entries(client, name)
        if not entries:
            raise DataError("the ledger has no entry", f"ledger of {name}", "the first promotion signs its own entry")
        states = [one.state for one in _signatures(entries, trust)[0]]
        pinned = {state: states.count(state) for state in dict.fromkeys(states)}
        record = {"reason": reason, "signatures": pinned}
        entry = promotion.sign_ledger(client, name, entries, record, signing.entry_signing(signer, trust))
    return SignResult(name=name, ledger_entry=entry.number, pinned=pinned)


def _read(name: str) -> tuple[list[LedgerEntry], list[str], list[Anchor]]:
    """Entries, their faults, and the anchors in S3, which are read later: an entry is written before its anchor."""
    with tracking.service() as client:
        entries, anchors = ledger.read(name), ledger_anchors.read(name)
        return entries, promotion.find_faults(client, name, entries, anchors), anchors


def _signatures(entries: list[LedgerEntry], params: TrustParams | None) -> tuple[list[EntrySignature], EntrySignature]:
    trust = trust_file.load(params.keys if params else None)
    checks = [ledger_signatures.check(entry, trust) for entry in entries]
    return checks, ledger_signatures.summary(entries, checks)


def _row(entry: LedgerEntry, signature: EntrySignature | None = None) -> str:
    signed = "" if signature is None else f" [{_described(signature)}]"
    return (
        f"{entry.number} {entry.time} {entry.who} {entry.action} version {entry.version} -> "
        f"champion {entry.champion}: {entry.evidence.get('reason', '')}{_baseline(entry)}{_override(entry)}{signed}"
    )


def _described(signature: EntrySignature) -> str:
    by = f" by {signature.signer}" if signature.signer and signature.state == "verified" else ""
    note = f" ({signature.note})" if signature.note and signature.state != "unsigned" else ""
    return f"{signature.state}{by}{note}"


def _baseline(entry: LedgerEntry) -> str:
    """The comparison with the primary baseline, where the reason of the decision does not contain it."""
    reasons = [gate["reason"] for gate in entry.evidence.get("gates", ()) if gate["name"] == "primary baseline"]
    return "".join(f"; {reason}" for reason in reasons if reason not in entry.evidence.get("reason", ""))


def _override(entry: LedgerEntry) -> str:
    """A decision with less strict settings than params.yaml, and its reason."""
    looser = entry.evidence.get("looser")
    if not looser:
        return ""
    return f" [LOOSER than params.yaml: {'; '.join(looser)}; reason: {entry.evidence.get('override_reason', '')}]"
