"""The electronic signature on an approval as an in-toto statement, which the key of the signatory's machine signs."""

from collections.abc import Mapping
from typing import Any

from mcti.registry.electronic_signatures import ID_LENGTH, ElectronicSignature
from mcti.registry.trust.envelope import payload_of

APPROVAL = "approval"
PREDICATE = "urn:mcti:approval:v1"


def name(signature: ElectronicSignature) -> str:
    """The name of the signed statement of a signature, also in the reports."""
    return f"{APPROVAL}-{signature.id}"


def name_in(statement: Mapping[str, Any], address: str) -> str:
    """The name of a signed approval of the version at `address`; "" for any other statement."""
    predicate = statement["predicate"]
    if statement["predicateType"] != PREDICATE or predicate.get("address") != address:
        return ""
    return f"{APPROVAL}-{str(predicate.get('hash', ''))[:ID_LENGTH]}"


def payload(signature: ElectronicSignature) -> bytes:
    """The statement to sign."""
    return payload_of(_subject(signature), PREDICATE, _predicate(signature))


def differences(statement: Mapping[str, Any], signature: ElectronicSignature) -> list[str]:
    """What differs between a signed statement and the record in the registry; empty when they agree."""
    if statement["predicateType"] != PREDICATE:
        return [f"the statement has the type {statement['predicateType']!r}, not {PREDICATE}"]
    expected, signed = _predicate(signature), statement["predicate"]
    faults = [f"{key} is {expected[key]!r}, signed was {signed.get(key)!r}" for key in expected if key not in signed
              or signed[key] != expected[key]]  # fmt: skip
    if statement["subject"] != _subject(signature):
        faults.append("the statement is about another version")
    return faults


def _subject(signature: ElectronicSignature) -> list[dict[str, Any]]:
    return [{"name": signature.address, "digest": {"sha256": signature.digest}}]


def _predicate(signature: ElectronicSignature) -> dict[str, Any]:
    record = signature.model_dump(mode="json")
    return {"signed_at": record.pop("time"), **record}
