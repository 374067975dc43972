"""Verification of a version: its files, its signature, every statement of its lineage, the decision and the ledger."""

from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from mcti.errors import DataError
from mcti.registry import ensemble_index, evidence, ledger_anchors, models
from mcti.registry.electronic_signatures import ElectronicSignature, UnreadableSignature
from mcti.registry.ledger_anchors import Anchor
from mcti.registry.trust import (
    approval_statement,
    envelope,
    ledger_signatures,
    model_signature,
    statement_time,
    statements,
)
from mcti.registry.trust.envelope import InvalidDocument
from mcti.registry.trust.material import Material
from mcti.registry.trust.trust_file import Role, TrustFile

MODEL, WEIGHTS, EVALUATION_FILES, LEDGER, ANCHOR = "model", "weights", "evaluation files", "ledger", "anchor"
OTHERS = "other statements"
State = Literal["verified", "unsigned", "unknown", "broken"]


class Check(BaseModel):
    """One result. state: verified | unsigned | unknown (the key is not trusted) | broken; signer: id of its key."""

    model_config = ConfigDict(frozen=True)
    subject: str
    state: State
    signer: str = ""
    note: str = ""


def check_model(material: Material, trust: TrustFile) -> list[Check]:
    """The files of the model against index, digest and signature."""
    return [_guarded(WEIGHTS, lambda: _weights(material)), _model(material, trust)]


def check_lineage(material: Material, trust: TrustFile) -> list[Check]:
    """The files of the evaluation, and the statements from the features to the registration."""
    files = [_guarded(EVALUATION_FILES, lambda: _evaluation_files(material))]
    return files + [_step(step, material, trust) for step in statements.STEPS]


def check_gate(material: Material, trust: TrustFile) -> list[Check]:
    """The decision that promoted the version, and the ledger."""
    return [_gate(material, trust), *_ledger(material, trust)]


def check_approvals(material: Material, trust: TrustFile) -> list[Check]:
    """The electronic signatures on the version, and whether those that its decision counted are still there.

    A signature on an earlier evaluation of the same weights is not checked: it counts no more.
    """
    try:
        return [check for one in material.approvals for check in _approval(one, material, trust)]
    except DataError as error:
        return [Check(subject=approval_statement.APPROVAL, state="broken", note=str(error))]


def check_all(material: Material, trust: TrustFile) -> list[Check]:
    """Every check, in the order of the lineage; of files that none of them read, only faults."""
    checks = [
        *check_model(material, trust),
        *check_lineage(material, trust),
        *check_approvals(material, trust),
        *check_gate(material, trust),
    ]
    others = _guarded(OTHERS, lambda: _faults_of_others(material, {check.subject for check in checks}))
    return checks if others.state == "verified" else [*checks, others]


def check_anchor(material: Material, anchor: Anchor) -> Check:
    """A printed anchor against the ledger, or the part of it in a bundle."""
    try:
        entries = material.ledger_entries
    except DataError as error:
        return Check(subject=ANCHOR, state="broken", note=str(error))
    if not entries or anchor.number < entries[0].number:
        note = f"entry {anchor.number} is not part of what is verified: use an anchor of a later entry"
        return Check(subject=ANCHOR, state="unknown", note=note)
    faults = ledger_anchors.find_faults(entries, [anchor])
    return Check(subject=ANCHOR, state="broken" if faults else "verified", note="; ".join(faults))


def _faults_of_others(material: Material, checked: Set[str]) -> list[str]:
    """Files among the signed statements that are none of this version.

    A decision or an approval that counts no more, or whose command was interrupted, is one: it must state its own name.
    """
    folder = material.signatures
    if folder is None:
        return []
    names = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    read = {f"{subject}.json" for subject in checked}
    return [
        f"{name} is no statement of this version"
        for name, path in names.items()
        if name not in read and name != f"{_stated_name(path.read_bytes(), material.address)}.json"
    ]


def _stated_name(text: bytes, address: str) -> str:
    """The name of a decision or approval on a version, as the statement gives it; "" for any other content."""
    try:
        statement = envelope.read(text).statement
    except InvalidDocument:
        return ""
    return statements.gate_name(statement, address) or approval_statement.name_in(statement, address)


def _guarded(subject: str, find: Callable[[], list[str] | None]) -> Check:
    """A check without a signature. find: the faults; None: the material is not available."""
    try:
        faults = find()
    except (DataError, InvalidDocument) as error:
        faults = [str(error)]
    if faults is None:
        return Check(subject=subject, state="verified", note="by their signed SHA-256 only: they are not in the bundle")
    return Check(subject=subject, state="broken" if faults else "verified", note="; ".join(faults[:3]))


def _weights(material: Material) -> list[str]:
    """Files that differ from the index, and an index that differs from the digest of the version."""
    known = material.tags.get(models.DIGEST)
    if not known:
        return [f"the version has no tag {models.DIGEST}"]
    index = ensemble_index.read(material.ensemble)
    listed = {f"{member}/{name}": sha for member, files in index["members"].items() for name, sha in files.items()}
    actual = {path: sha for path, sha in material.files.items() if path != ensemble_index.INDEX}
    faults = [f"{path} is missing" for path in sorted(listed.keys() - actual.keys())]
    faults += [f"{path} is not in the index" for path in sorted(actual.keys() - listed.keys())]
    faults += [f"{path} was altered" for path in sorted(listed) if path in actual and listed[path] != actual[path]]
    if ensemble_index.digest_of(index) != known:
        faults.append("the index is not the one that was registered")
    return faults


def _evaluation_files(material: Material) -> list[str] | None:
    if material.evaluation is None:
        return None
    contract = material.tags.get(models.CONTRACT, "unknown")
    actual, known = evidence.md5_of_files(contract, material.evaluation), material.tags.get(models.EVALUATION)
    return [] if actual == known else [f"the MD5 of the files is {actual}, that of the version {known or 'absent'}"]


def _model(material: Material, trust: TrustFile) -> Check:
    def differences(statement: Mapping[str, Any]) -> list[str]:
        return model_signature.differences(statement, material.files, material.address)

    return _signed(MODEL, "model", material, trust, differences)


def _step(step: str, material: Material, trust: TrustFile) -> Check:
    check = _signed(step, "lineage", material, trust, lambda x: statements.differences(step, x, material.facts))
    learned = _learned_from(material) if step == "training" else ""
    return check.model_copy(update={"note": "; ".join(filter(None, (check.note, learned)))})


def _learned_from(material: Material) -> str:
    """Sources and prior of the training, by name; empty without any, and where its files cannot be read."""
    try:
        transfer = material.facts.transfer
    except (InvalidDocument, DataError):  # the check names the file
        return ""
    names = [f"source {one.get('name', 'cohort')}" for one in transfer.get("sources", ())]
    if prior := transfer.get("prior"):
        names.append(f"prior {prior['name']} version {prior['version']}")
    return f"it learned from {', '.join(names)}" if names else ""


def _approval(one: ElectronicSignature | UnreadableSignature, material: Material, trust: TrustFile) -> Iterator[Check]:
    if isinstance(one, UnreadableSignature):
        yield Check(subject=approval_statement.APPROVAL, state="broken", note=f"{one.tag}: {one.reason}")
        return
    name, counted = approval_statement.name(one), one in material.counted_approvals
    fault = one.fault(material.address, material.tags.get(models.DIGEST, ""))
    if not fault and one.evaluation != material.tags.get(models.EVALUATION) and not counted:
        return
    if not fault and counted and material.has_all_tags and one.tag not in material.tags:
        fault = "the decision counted it, and its tag was removed"
    if fault:
        yield Check(subject=name, state="broken", note=f"{one.who}: {fault}")
        return
    check = _signed(name, "approval", material, trust, lambda x: approval_statement.differences(x, one))
    described = f"{one.who} {one.describe()}"
    yield check.model_copy(update={"note": f"{described}; {check.note}" if check.note else described})


def _gate(material: Material, trust: TrustFile) -> Check:
    try:
        entry = material.decision
    except DataError as error:
        return Check(subject=statements.GATE, state="broken", note=str(error))
    if entry is None:
        return Check(subject=statements.GATE, state="unsigned", note="no decision promoted this version")
    digest, md5 = (material.tags.get(tag, "") for tag in (models.DIGEST, models.EVALUATION))

    def differences(statement: Mapping[str, Any]) -> list[str]:
        return statements.gate_differences(statement, entry, material.address, md5, digest)

    return _signed(statements.name_of_gate(entry.number), "gate", material, trust, differences)


def _ledger(material: Material, trust: TrustFile) -> list[Check]:
    try:
        faults, entries = material.ledger_faults, material.ledger_entries
    except DataError as error:
        return [Check(subject=LEDGER, state="broken", note=str(error))]
    if faults is None:
        return []
    if faults:
        return [Check(subject=LEDGER, state="broken", note="; ".join(faults[:3]))]
    result = ledger_signatures.summary(entries, [ledger_signatures.check(entry, trust) for entry in entries])
    last = f"last entry {entries[-1].number} of {entries[-1].time}" if entries else "it has no entry"
    note = f"{result.note}; {last}" if result.note else last
    return [Check(subject=LEDGER, state=result.state, signer=result.signer, note=note)]


def _signed(
    name: str, role: Role, material: Material, trust: TrustFile, differences: Callable[[Mapping[str, Any]], list[str]]
) -> Check:
    """A document against its signature, the trust file, and the version. name: of its file and in the report."""
    try:
        text = material.signature(name)
        if text is None:
            return Check(subject=name, state="unsigned", note="it has no signature")
        document = envelope.read(text)
        statement = document.statement
        result = trust.check(document, role, statement_time.of(statement))
        faults = differences(statement)
    except (InvalidDocument, DataError) as error:
        return Check(subject=name, state="broken", note=str(error))
    if result.state == "broken" or not faults:
        return Check(subject=name, state=result.state, signer=result.signer, note=result.note)
    return Check(subject=name, state="broken", signer=result.signer, note="; ".join(faults[:3]))
