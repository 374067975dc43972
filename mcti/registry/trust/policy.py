"""The policy of a site: what a model must prove before it is used (`trust.require`)."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mcti.errors import DataError, Untrusted
from mcti.params import TrustParams, from_json
from mcti.registry import approvals, models, tracking
from mcti.registry.electronic_signatures import ElectronicSignature
from mcti.registry.ledger import LedgerEntry
from mcti.registry.trust import approval_statement, bundle, ledger_signatures, trust_file, verification
from mcti.registry.trust.bundle import Bundle
from mcti.registry.trust.material import Material, RegisteredVersion
from mcti.registry.trust.trust_file import TrustFile
from mcti.registry.trust.verification import Check

VARIABLE = "MCTI_TRUST"
"""The section `trust` as JSON: a pipeline sets it for its tasks."""


def from_environment() -> TrustParams:
    """The policy of this process: `VARIABLE`, or the defaults without it.

    Raises UsageError when it is invalid.
    """
    text = os.environ.get(VARIABLE)
    return from_json(TrustParams, text, VARIABLE) if text else TrustParams()


def task_environment(params: TrustParams) -> dict[str, str]:
    """The environment of the tasks of a pipeline that have this policy; empty for the defaults."""
    return {} if params == TrustParams() else {VARIABLE: params.model_dump_json()}


def fetch(location: str, scratch: Path, params: TrustParams) -> Path:
    """The folder of an ensemble that satisfies the policy; the files that were verified are those that are returned.

    location  as in `models.fetch`, or a bundle

    Raises
    DataError as `models.fetch`, and when a check finds a fault.
    Untrusted when the policy requires a signature that is missing or whose key is not trusted.
    """
    if bundle.is_bundle(location):
        return _verified(Bundle(Path(location), scratch), params)
    if params.require == "none":
        return models.fetch(location, scratch)
    if not location.startswith("models:/"):
        hint = "use models:/NAME@ALIAS or a bundle of `mcti bundle`"
        raise Untrusted(f"a folder has no signature, and trust.require is {params.require}", location, hint)
    with tracking.service() as client:
        alias = models.parse_address(location)[1]
        version = models.version_at(client, location)
        return _verified(RegisteredVersion(client, version, scratch, alias=alias), params)


def require_candidate(client: Any, version: Any, scratch: Path, params: TrustParams) -> None:
    """Check a version before its promotion: as `fetch`, but no decision is required yet.

    Raises as `fetch`.
    """
    if params.require != "none":
        material, trust = RegisteredVersion(client, version, scratch), trust_file.load(params.keys)
        checks = verification.check_model(material, trust)
        if params.require == "lineage":
            checks += verification.check_lineage(material, trust)
        raise_unless_verified(checks, material.address)


def require_ledger(entries: Sequence[LedgerEntry], params: TrustParams) -> None:
    """Check the signatures of a ledger before a decision is added; an empty one is accepted.

    Raises
    DataError when a signature is broken.
    Untrusted when `trust.require` is `lineage` and the ledger is unsigned, or its key not trusted.
    """
    if not entries or params.require == "none":
        return
    trust = trust_file.load(params.keys)
    result = ledger_signatures.summary(entries, [ledger_signatures.check(entry, trust) for entry in entries])
    if result.state == "broken" or params.require == "lineage":
        checks = [verification.Check(subject=verification.LEDGER, state=result.state, note=result.note)]
        raise_unless_verified(checks, f"ledger of {entries[0].model}")


def trusts_entry(params: TrustParams) -> Callable[[LedgerEntry], bool]:
    """Whether a key of the trust file signed an entry; without a file, no entry is trusted.

    Raises DataError when the trust file is invalid.
    """
    trust = trust_file.load(params.keys)
    return lambda entry: ledger_signatures.check(entry, trust).state == "verified"


def trusted_approvals(client: Any, version: Any, scratch: Path, params: TrustParams) -> list[ElectronicSignature]:
    """The electronic signatures on a version that count: all valid ones, or with a policy those of a trusted key.

    Raises DataError when the trust file is invalid.
    """
    signatures = approvals.signatures(version)
    if params.require == "none" or not signatures:
        return signatures
    checks = verification.check_approvals(RegisteredVersion(client, version, scratch), trust_file.load(params.keys))
    verified = {check.subject for check in checks if check.state == "verified"}
    return [one for one in signatures if approval_statement.name(one) in verified]


def raise_unless_verified(checks: Sequence[Check], where: str) -> None:
    """Raises DataError when a check is broken, Untrusted when one is unsigned or its key unknown."""
    for state, error in (("broken", DataError), ("unknown", Untrusted), ("unsigned", Untrusted)):
        failed = [check for check in checks if check.state == state]
        if failed:
            what = "; ".join(f"{check.subject}: {state}: {check.note}" for check in failed)
            raise error(what, where, "see `mcti verify`; the keys of this site are in the file trust.keys")


def _verified(material: Material, params: TrustParams) -> Path:
    raise_unless_verified(_required(material, trust_file.load(params.keys), params.require), material.address)
    return material.ensemble


def _required(material: Material, trust: TrustFile, require: str) -> list[Check]:
    if require == "lineage":
        return verification.check_all(material, trust)
    checks = verification.check_model(material, trust)
    return checks if require == "signature" else [x for x in checks if x.subject == verification.WEIGHTS]
