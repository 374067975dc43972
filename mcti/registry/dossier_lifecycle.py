"""Sections of the release dossier about the lifecycle: electronic signatures, and IEC 62304 traceability."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mcti.registry import approvals, electronic_signatures
from mcti.registry.card import GAP
from mcti.registry.dossier_document import DossierSource, Section, Table, cell, pairs
from mcti.registry.electronic_signatures import UnreadableSignature
from mcti.registry.gates import NOT_ENOUGH_EVIDENCE, PROMOTE, REJECT
from mcti.registry.ledger import LedgerEntry
from mcti.registry.promotion import REPAIR, ROLLBACK

OPEN = "open"
_PROBLEMS = (REJECT, NOT_ENOUGH_EVIDENCE, ROLLBACK, REPAIR)
"""Actions of the ledger that answer a problem; the others record a promotion, or sign the ledger."""


def signatures(source: DossierSource) -> Section:
    """The electronic signatures on the version: who, when, meaning, and whether they count."""
    rows = tuple(_signature_row(source, one) for one in electronic_signatures.read(source.tags))
    named = sorted(tag.removeprefix(approvals.APPROVED) for tag in source.tags if tag.startswith(approvals.APPROVED))
    paragraphs = [f"Approved without an electronic signature: {', '.join(named)}."] if named else []
    if rows:
        paragraphs.append(
            "The signatory gave the password of an MLflow user at the time of the signature. mcti verify checks the "
            "signed statements of these records."
        )
    gaps = [] if any(row[-1] == "valid" for row in rows) else ["no valid electronic signature: mcti approve --meaning"]
    headers = ("who", "time (UTC)", "meaning", "server", "evaluation (MD5)", "state")
    return Section(
        key="signatures",
        title="Electronic signatures",
        paragraphs=tuple(paragraphs),
        tables=(Table(headers=headers, rows=rows),) if rows else (),
        gaps=(*gaps, "the person and role behind each user name"),
    )


def _signature_row(source: DossierSource, one: Any) -> tuple[str, ...]:
    if isinstance(one, UnreadableSignature):
        return one.tag, "", "", "", "", f"BROKEN: {one.reason}"
    address = f"models:/{source.card['name']}/{source.version}"
    fault = one.fault(address, source.card["lineage"]["digest"])
    state = f"BROKEN: {fault}" if fault else "valid"
    if not fault and one.evaluation != source.tags.get("mcti.evaluation_md5"):
        state = "about an earlier evaluation: does not count"
    elif not fault and one.who in (
        source.tags.get(approvals.REGISTERED_BY),
        source.tags.get(approvals.REGISTERED_USER),
    ):
        state = "of the person who registered: does not count"
    return one.who, f"{one.time:%Y-%m-%d %H:%M:%S}", one.meaning, one.server, one.evaluation, state


def traceability(source: DossierSource) -> Section:
    """Configuration of the software (IEC 62304, 8), and problems with their resolution (IEC 62304, 9)."""
    problems = tuple(_problems(source))
    return Section(
        key="lifecycle",
        title="Problem and version traceability (IEC 62304)",
        tables=(
            pairs(_configuration(source), "configuration items of this version (8.1)"),
            Table(
                title="problems in ledger and evaluation, and the version that resolved them (9.1 to 9.8)",
                headers=("source", "time", "version", "problem", "resolved by"),
                rows=problems or (("ledger and evaluation", "", "", "none recorded", ""),),
            ),
            _versions(source.entries),
        ),
        gaps=(
            "software safety class (A, B or C), and its rationale",
            "software requirements and their trace to tests (5)",
            "problem reports from outside the registry (users, complaints)",
            "published anomalies of the packages of the SBOM, and their evaluation (7.1.3)",
        ),
    )


def _configuration(source: DossierSource) -> Mapping[str, Any]:
    lineage, features = source.card["lineage"], source.card["inputs"]["features"]
    encoder = features if features == GAP else features.get("encoder", GAP)
    return {
        "version": f"models:/{source.card['name']}/{source.version}",
        "weights (SHA-256)": lineage["digest"],
        "source code (commit)": lineage["commit"],
        "image": lineage["image"],
        "encoder": encoder,
        "folds (SHA-256)": lineage["folds"],
        **{f"data {path}": md5 for path, md5 in lineage["data"].items()},
        "software of unknown provenance (SBOM)": f"{len(source.sbom['components'])} packages with versions",
    }


def _problems(source: DossierSource) -> Iterator[tuple[str, ...]]:
    """Decisions that did not promote, repairs and rollbacks of the model; warnings and failed expectations."""
    for entry in source.entries:
        if entry.action in _PROBLEMS:
            what = f"{entry.action}: {entry.evidence.get('reason', '')}"
            yield (f"ledger entry {entry.number}", entry.time, str(entry.version), what,
                   _resolution(entry, source.entries))  # fmt: skip
        elif entry.action == PROMOTE and entry.evidence.get("looser"):
            what = f"promoted with settings looser than agreed: {cell(entry.evidence['looser'])}"
            yield f"ledger entry {entry.number}", entry.time, str(entry.version), what, OPEN
    number = str(source.version)
    for warning in source.evaluation.get("warnings", ()):
        yield "evaluation", "", number, warning, OPEN
    for failed in _failed(source.card["data"]):
        yield "data contract", "", number, failed, OPEN
    if source.card["notice"]:
        yield "registration", "", number, source.card["notice"], OPEN


def _failed(data: Any) -> Iterator[str]:
    if data != GAP:
        for expectation in data["expectations"]:
            if not expectation["passed"]:
                yield f"{expectation['description']}: {expectation['failing']} of {expectation['rows']} rows"


def _resolution(entry: LedgerEntry, entries: Sequence[LedgerEntry]) -> str:
    """The next promotion after an entry."""
    later = (one for one in entries if one.number > entry.number and one.action == PROMOTE)
    promotion = next(later, None)
    return OPEN if promotion is None else f"version {promotion.version} (ledger entry {promotion.number})"


def _versions(entries: Sequence[LedgerEntry]) -> Table:
    """Each version in the ledger with its commit, weights and data: the history of the configuration (8.3)."""
    rows = {
        entry.version: (
            str(entry.version),
            str(entry.evidence["digest"]),
            str(entry.evidence.get("commit", GAP)),
            cell(entry.evidence.get("data", {})),
            f"entry {entry.number}: {entry.action}",
        )
        for entry in entries
        if entry.evidence.get("digest")
    }
    headers = ("version", "weights (SHA-256)", "commit of the decision", "data (MD5)", "last decision")
    return Table(title="history of the versions (8.3)", headers=headers, rows=tuple(rows.values()))
