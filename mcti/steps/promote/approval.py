"""approve: a second person approves a version, by name or with an electronic signature."""

import os
from typing import Any

from mcti.errors import UsageError
from mcti.registry import approvals, electronic_signatures, models, reauthentication, rest, tracking
from mcti.registry.electronic_signatures import ElectronicSignature
from mcti.registry.trust import keys, signing
from mcti.registry.trust.keys import Signer
from mcti.steps.result import StepResult


class ApproveResult(StepResult):
    """Who approved the version, every valid approval of it, and the electronic signature, if it is one."""

    name: str
    version: int
    who: str
    approved: tuple[str, ...]
    signature: ElectronicSignature | None = None


def approve(
    name: str, version: int | None = None, *, meaning: str = "", user: str = "", signed_only: bool = False
) -> ApproveResult:
    """Approve a version (default: the challenger) as a second reviewer; promote.approvals is the number required.

    The approval applies to the current weights and evaluation: a new evaluation needs a new approval.

    meaning      what an electronic signature states; "": no signature
    user         the MLflow user who signs, whose password is required (reauthentication.py); "": the configured one
    signed_only  approvals without a signature do not count (promote.signed_approvals)

    Writes  a tag of the version; for a signature also its signed statement where the environment configures a key

    Raises
    UsageError when the meaning is invalid or missing, there is no user or password, or the key cannot be used.
    Untrusted when MLflow does not accept the password.
    DataError when the approving person registered the version.
    OperationalError when MLflow does not respond or has no users, or the command that signs fails.
    """
    signer = _check_usage(meaning, user, signed_only)
    with tracking.service() as client:
        chosen = models.candidate(client, name, version)
        models.run_of(chosen)
        signature = _sign(client, chosen, meaning, user, signer) if meaning else None
        who = approvals.approve(client, chosen) if signature is None else signature.who
        approvers = approvals.approvers(models.version_by_number(client, name, int(chosen.version)))
    number, approved = int(chosen.version), tuple(approvers)
    return ApproveResult(name=name, version=number, who=who, approved=approved, signature=signature)


def _check_usage(meaning: str, user: str, signed_only: bool) -> Signer | None:
    """The signing key of an approval with a signature; None without a key or a signature."""
    if meaning:
        electronic_signatures.check_meaning(meaning)
        return keys.from_environment()
    if signed_only:
        what = "promote.signed_approvals is true: only an approval with an electronic signature counts"
        raise UsageError(what, "mcti approve", "add --meaning TEXT")
    if user:
        raise UsageError("--user names the person who signs", "mcti approve", "add --meaning TEXT, or omit --user")
    return None


def _sign(client: Any, version: Any, meaning: str, user: str, signer: Signer | None) -> ElectronicSignature:
    who = user or rest.user_name()
    if not who:
        raise UsageError("no MLflow user is named", "mcti approve", "add --user NAME, or set MLFLOW_TRACKING_USERNAME")
    approvals.refuse_registrant(version, who, "another person must sign the approval")
    uri = os.environ["MLFLOW_TRACKING_URI"]
    server = reauthentication.confirm(uri, who, reauthentication.read_password(who))
    signature = electronic_signatures.record(version, who, server, electronic_signatures.check_meaning(meaning))
    if signer is not None:
        signing.sign_approval(client, version, signature, signer)
    electronic_signatures.write(client, version, signature)
    return signature
