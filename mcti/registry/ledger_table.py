"""The ledger as CSV for auditors: one row per entry, RFC 4180, UTF-8, no cell that a spreadsheet runs as a formula."""

import csv
import io
from collections.abc import Sequence

from mcti.registry.ledger import LedgerEntry
from mcti.registry.trust.ledger_signatures import EntrySignature

COLUMNS = (
    "model", "number", "time", "who", "action", "version", "champion", "previous", "reason", "looser_than_params",
    "override_reason", "digest", "evaluated_commit", "signature", "signer", "signature_note", "hash", "hash_before",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def to_csv(entries: Sequence[LedgerEntry], signatures: Sequence[EntrySignature]) -> str:
    """The table; `signatures` of the same entries. The same ledger gives the same text."""
    out = io.StringIO()
    writer = csv.writer(out)  # lines end with CR LF, as RFC 4180 states
    writer.writerow(COLUMNS)
    writer.writerows([_cell(value) for value in _row(*pair)] for pair in zip(entries, signatures, strict=True))
    return out.getvalue()


def _row(entry: LedgerEntry, signature: EntrySignature) -> tuple[object, ...]:
    facts = entry.evidence
    return (
        entry.model, entry.number, entry.time, entry.who, entry.action, entry.version, entry.champion, entry.previous,
        facts.get("reason"), "; ".join(facts.get("looser", ())), facts.get("override_reason"), facts.get("digest"),
        facts.get("commit"), signature.state, signature.signer, signature.note, entry.hash, entry.before,
    )  # fmt: skip


def _cell(value: object) -> str:
    """The text of a value; an apostrophe before a text that a spreadsheet would read as a formula."""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
