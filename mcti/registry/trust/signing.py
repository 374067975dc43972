"""Signing a version when it is registered, and the decision when it is promoted; the documents become artifacts."""

import tempfile
from pathlib import Path
from typing import Any

from mcti.errors import DataError, Untrusted
from mcti.params import TrustParams
from mcti.registry import evidence, models
from mcti.registry.electronic_signatures import ElectronicSignature
from mcti.registry.ledger import LedgerEntry
from mcti.registry.promotion import Signing
from mcti.registry.trust import approval_statement, envelope, ledger_signatures, model_signature, statements, trust_file
from mcti.registry.trust.keys import Signer
from mcti.registry.trust.material import SIGNATURES, RegisteredVersion
from mcti.registry.trust.verification import MODEL


def sign_version(material: RegisteredVersion, signer: Signer) -> None:
    """Sign the files of a version and the statements of its lineage; earlier signatures are replaced.

    Raises
    DataError when the files of the evaluation in the registry are not those of the version.
    OperationalError when the command that signs fails.
    """
    actual = evidence.md5_of_files(material.tags.get(models.CONTRACT, ""), material.evaluation or [])
    if actual != material.tags.get(models.EVALUATION):
        raise DataError("the evaluation was altered: it is not signed", material.address, "register the model again")
    time = envelope.now()
    payloads = {MODEL: model_signature.payload(material.files, material.name, material.address, time)}
    payloads |= {step: statements.payload(step, material.facts, time) for step in statements.STEPS}
    signed = {name: envelope.write(signer.sign(payload)) for name, payload in payloads.items()}
    for name, text in signed.items():
        _store(material.client, material.version, name, text)


def sign_registered(client: Any, name: str, number: str, folder: Path, signer: Signer) -> None:
    """`sign_version` of a version whose ensemble is in `folder`, with the tags that it has now.

    number  of the version; errors as of `sign_version`
    """
    version = models.version_by_number(client, name, int(number))
    with tempfile.TemporaryDirectory(prefix="mcti-sign-") as scratch:
        sign_version(RegisteredVersion(client, version, Path(scratch), folder), signer)


def sign_decision(client: Any, version: Any, entry: LedgerEntry, signer: Signer) -> None:
    """Sign the statement of a gate decision about a version, before the ledger records it.

    Raises OperationalError when the command that signs fails.
    """
    address, md5 = f"models:/{version.name}/{version.version}", version.tags.get(models.EVALUATION, "")
    payload = statements.gate_payload(entry, address, md5, envelope.now())
    _store(client, version, statements.name_of_gate(entry.number), envelope.write(signer.sign(payload)))


def entry_signing(signer: Signer | None, params: TrustParams) -> Signing:
    """A function from a ledger entry to the entry with its signature; without a key, to the entry itself.

    Where the site has a trust file, it raises Untrusted when the key may not sign the entry: an entry cannot be removed
    later.
    """

    def sign(entry: LedgerEntry) -> LedgerEntry:
        if signer is None:
            return entry
        document = signer.sign(ledger_signatures.payload(entry))
        signed = entry.model_copy(update={"signature": envelope.to_bundle(document)})
        if params.keys:
            _require_accepted(signed, trust_file.load(params.keys))
        return signed

    return sign


def _require_accepted(entry: LedgerEntry, trust: trust_file.TrustFile) -> None:
    result = ledger_signatures.check(entry, trust)
    if result.state != "verified":
        role, where = ledger_signatures.role_of(entry.action), f"ledger of {entry.model}"
        hint = f"use a key with the role {role} of the file trust.keys, or add it there; nothing was written"
        raise Untrusted(f"the signature of this {entry.action} would not be accepted: {result.note}", where, hint)


def sign_approval(client: Any, version: Any, signature: ElectronicSignature, signer: Signer) -> None:
    """Sign the statement of an electronic signature, before its record is written.

    Raises OperationalError when the command that signs fails.
    """
    document = signer.sign(approval_statement.payload(signature))
    _store(client, version, approval_statement.name(signature), envelope.write(document))


def _store(client: Any, version: Any, name: str, text: str) -> None:
    client.log_text(models.run_of(version), text, f"{SIGNATURES}/{name}.json")
