"""promote, rollback and repair: which version is the champion, and on what evidence."""

import tempfile
from pathlib import Path
from typing import Any

from mcti.errors import NotEnoughEvidence, Rejected, UsageError
from mcti.params import PromoteParams, TrustParams
from mcti.registry import gates, ledger, lineage, models, promotion, strictness, tracking
from mcti.registry.electronic_signatures import ElectronicSignature
from mcti.registry.gates import Difference, Gate, GateEvaluation
from mcti.registry.ledger import LedgerEntry
from mcti.registry.pipeline_run import tracked
from mcti.registry.promotion import Signing
from mcti.registry.trust import keys, policy, signing
from mcti.registry.trust.keys import Signer
from mcti.steps.promote import gate_evaluation
from mcti.steps.promote.gate_evaluation import Candidate
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged


class PromoteResult(StepResult):
    """The decision. champion: the version with that alias afterwards; ledger_entry: number of the entry, if any."""

    name: str
    version: int
    outcome: str
    reason: str
    champion: int | None
    difference: Difference | None = None
    gates: tuple[Gate, ...] = ()
    ledger_entry: int | None = None
    dry_run: bool

    def lines(self) -> list[str]:
        """Human-readable output: the decision, then one line per gate."""
        suffix = " (dry run: no alias was changed)" if self.dry_run else ""
        by_gate = [f"  {gate.name}: {gate.verdict}: {gate.reason}" for gate in self.gates]
        return [f"{self.name} version {self.version}: {self.outcome}: {self.reason}{suffix}", *by_gate]


class RepairResult(StepResult):
    """Faults that were repaired (with `dry_run`: that would be), and the champion afterwards."""

    name: str
    champion: int | None
    repaired: tuple[str, ...]
    dry_run: bool

    def lines(self) -> list[str]:
        """Human-readable output."""
        prefix = "to repair" if self.dry_run else "repaired"
        faults = [f"{prefix}: {fault}" for fault in self.repaired] or ["nothing to repair"]
        return [*faults, f"{self.name}: champion {'none' if self.champion is None else f'version {self.champion}'}"]


@logged
@tracked
def promote(
    name: str,
    params: PromoteParams,
    *,
    version: int | None = None,
    dry_run: bool = False,
    agreed: PromoteParams | None = None,
    reason: str = "",
    trust: TrustParams | None = None,
) -> PromoteResult:
    """Compare a version (default: the challenger) with the champion on the same patients; promote it if all gates pass.

    agreed  the settings of params.yaml: where `params` are less strict, a reason is required, and the ledger has both
    trust   what the version must prove; None: the policy in the environment of a pipeline's task

    Reads   the version and the champion with their evaluations from MLflow; the ledger of model `name`
    Writes  one entry of the ledger, its signed statement where the environment configures a key (trust/keys.py), and on
            promotion the aliases `champion` and `previous`; nothing with `dry_run`

    Raises
    UsageError when settings are less strict than params.yaml and no reason is given, or the key cannot be used.
    Untrusted when the version does not satisfy `trust`.
    Rejected, NotEnoughEvidence when a gate rejects or lacks evidence; the message has the numbers.
    DataError when there is no such model or version, or ledger and aliases disagree; after an interrupted promotion
    whose entry a key of `trust` signed, the aliases are set to that entry instead.
    OperationalError when the command that signs fails; there is no entry, and no alias was moved.
    s3.Conflict when another promotion was written first.
    """
    looser = [] if agreed is None else strictness.less_strict(params, agreed)
    if looser and not reason.strip() and not dry_run:
        hint = "give --reason TEXT, which the ledger stores, or promote with the settings of params.yaml"
        raise UsageError(f"looser than params.yaml: {'; '.join(looser)}", "the promotion", hint)
    signer, policy_of_site = keys.from_environment(), trust or policy.from_environment()
    with (
        tracking.service() as client,
        tempfile.TemporaryDirectory(prefix="mcti-promote-", ignore_cleanup_errors=True) as scratch,
    ):
        challenger = models.candidate(client, name, version)
        trusted = None if dry_run else policy.trusts_entry(policy_of_site)
        entries = promotion.verified_entries(client, name, trusted=trusted)
        policy.require_ledger(entries, policy_of_site)
        champion = models.version_by_alias(client, name, models.CHAMPION)
        number = int(challenger.version)
        if champion is not None and champion.version == challenger.version:
            unchanged = f"version {number} is already the champion"
            return PromoteResult(
                name=name, version=number, outcome=gates.UNCHANGED, reason=unchanged, champion=number, dry_run=dry_run
            )
        verified = Path(scratch, "verified")
        policy.require_candidate(client, challenger, verified, policy_of_site)
        signatures = policy.trusted_approvals(client, challenger, verified, policy_of_site)
        evaluation = _evaluate(challenger, champion, entries, params, signatures, Path(scratch))
        override = {"looser": looser, "override_reason": reason} if looser else {}
        record = _circumstances(challenger, params) | override
        sign = _signing(client, challenger, signer, policy_of_site)
        entry = None if dry_run else _decide(client, entries, challenger, evaluation, record, sign)
    _raise_unless_promoted(evaluation, name, number)
    current = None if champion is None else int(champion.version)
    return PromoteResult(
        name=name,
        version=number,
        outcome=evaluation.outcome,
        reason=evaluation.reason,
        champion=current if entry is None else number,
        difference=evaluation.difference,
        gates=evaluation.gates,
        ledger_entry=None if entry is None else entry.number,
        dry_run=dry_run,
    )


def repair(name: str, *, dry_run: bool = False, trust: TrustParams | None = None) -> RepairResult:
    """Set the aliases to the state in the ledger, and record a version that was deleted; no gate is evaluated.

    trust  the policy of the site, for the signature of that record

    Raises
    DataError when the ledger itself is damaged: its objects must be restored from a backup.
    UsageError when the ledger is signed and a record is needed, but no key is configured.
    """
    sign = _entry_signing(trust)
    with tracking.service() as client:
        entries = ledger.read(name)
        faults = promotion.find_faults(client, name, entries) if dry_run else promotion.repair(client, name, sign=sign)
        champion = models.version_by_alias(client, name, models.CHAMPION)
    number = None if champion is None else int(champion.version)
    return RepairResult(name=name, champion=number, repaired=tuple(faults), dry_run=dry_run)


def rollback(name: str, *, trust: TrustParams | None = None) -> PromoteResult:
    """Return the alias `champion` to the version before, and record it in the ledger.

    trust  the policy of the site, for the signature of the entry

    Raises
    DataError when there is no version before.
    UsageError when the ledger is signed, but no key is configured.
    Untrusted when the trust file does not let the key sign a rollback.
    """
    sign = _entry_signing(trust)
    with tracking.service() as client:
        entry = promotion.rollback(client, name, sign=sign)
    return PromoteResult(
        name=name,
        version=entry.version,
        outcome=entry.action,
        reason=entry.evidence["reason"],
        champion=entry.champion,
        ledger_entry=entry.number,
        dry_run=False,
    )


def _entry_signing(trust: TrustParams | None) -> Signing:
    return signing.entry_signing(keys.from_environment(), trust or policy.from_environment())


def _evaluate(
    challenger: Any,
    champion: Any | None,
    entries: list[LedgerEntry],
    params: PromoteParams,
    signatures: list[ElectronicSignature],
    scratch: Path,
) -> GateEvaluation:
    current = None if champion is None else Candidate(champion, scratch / "champion")
    candidate = Candidate(challenger, scratch / "challenger", tuple(signatures))
    return gate_evaluation.evaluate_gates(candidate, current, entries, params)


def _decide(
    client: Any,
    entries: list[LedgerEntry],
    challenger: Any,
    evaluation: GateEvaluation,
    record: dict[str, Any],
    sign: Signing,
) -> LedgerEntry:
    entry = promotion.decide(client, entries, challenger, evaluation, record, sign=sign)
    tracking.log_json(client, models.run_of(challenger), f"promotion/entry_{entry.number}.json", entry)
    return entry


def _signing(client: Any, challenger: Any, signer: Signer | None, params: TrustParams) -> Signing:
    """Sign a decision twice: the entry for the ledger, and the statement of its gates for the version."""
    sign_entry = signing.entry_signing(signer, params)

    def sign(entry: LedgerEntry) -> LedgerEntry:
        signed = sign_entry(entry)
        if signer is not None:
            signing.sign_decision(client, challenger, signed, signer)
        return signed

    return sign


def _circumstances(challenger: Any, params: PromoteParams) -> dict[str, Any]:
    data = {
        key.removeprefix("mcti.data."): value for key, value in challenger.tags.items() if key.startswith("mcti.data.")
    }
    return {
        "digest": challenger.tags[models.DIGEST],
        "data": data,
        "commit": lineage.commit(),
        "params": params.model_dump(mode="json"),
    }


def _raise_unless_promoted(evaluation: GateEvaluation, name: str, version: int) -> None:
    errors = {gates.REJECT: Rejected, gates.NOT_ENOUGH_EVIDENCE: NotEnoughEvidence}
    error = errors.get(evaluation.outcome)
    if error is None:
        return
    decisive = [gate for gate in evaluation.gates if gate.verdict == evaluation.outcome]
    # More patients change a statistical gate only, not leakage, cost or a missing approval.
    statistical = any("events" in gate.numbers for gate in decisive)
    hint = "the champion is unchanged" + ("; train on more patients" if statistical else "")
    raise error(evaluation.reason, f"model {name}, version {version}", hint)
