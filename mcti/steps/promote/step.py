"""promote, rollback, approve and the ledger: who may be champion, on what evidence, and how to go back."""

import tempfile
from pathlib import Path
from typing import Any

from mcti import s3
from mcti.errors import DataError, NotEnoughEvidence, Rejected, UsageError
from mcti.params import PromoteParams
from mcti.registry import approvals, gates, ledger, lineage, models, promotion, strictness, tracking
from mcti.registry.gates import Difference, Gate, GateEvaluation
from mcti.registry.ledger import LedgerEntry
from mcti.registry.pipeline_run import tracked
from mcti.steps.promote import gate_evaluation
from mcti.steps.promote.gate_evaluation import Candidate
from mcti.steps.result import StepResult
from mcti.steps.task_log import logged


class PromoteResult(StepResult):
    """The decision: `champion` is the version that carries the alias afterwards, `line` the ledger's number."""

    name: str
    version: int
    outcome: str
    reason: str
    champion: int | None
    lead: Difference | None
    gates: tuple[Gate, ...] = ()
    line: int | None
    dry_run: bool

    def lines(self) -> list[str]:
        """For people."""
        tried = " (dry run: nothing was moved)" if self.dry_run else ""
        judged = [f"  {gate.name}: {gate.verdict}: {gate.reason}" for gate in self.gates]
        return [f"{self.name} version {self.version}: {self.outcome}: {self.reason}{tried}", *judged]


class RepairResult(StepResult):
    """What was wrong and is mended (with `dry_run`: would be), and the champion afterwards."""

    name: str
    champion: int | None
    mended: tuple[str, ...]
    dry_run: bool

    def lines(self) -> list[str]:
        """For people."""
        word = "to mend" if self.dry_run else "mended"
        told = [f"{word}: {sentence}" for sentence in self.mended] or ["nothing to mend"]
        return [*told, f"{self.name}: champion {'none' if self.champion is None else f'version {self.champion}'}"]


class ApproveResult(StepResult):
    """Who approved, and everybody whose approval of the version stands now."""

    name: str
    version: int
    who: str
    approved: tuple[str, ...]


class LedgerResult(StepResult):
    """The ledger of a model: `faults` is empty when every line and every alias is as it was written.

    versioned  whether its bucket keeps what an edit or a deletion hides; None: it does not say
    """

    name: str
    entries: tuple[LedgerEntry, ...]
    faults: tuple[str, ...]
    versioned: bool | None

    def lines(self) -> list[str]:
        """For people: a line a decision, then what is wrong."""
        told = [
            f"{line.number} {line.time} {line.who} {line.action} version {line.version} -> champion {line.champion}: "
            f"{line.evidence.get('reason', '')}{_override(line)}"
            for line in self.entries
        ]
        faults = [f"FAULT {fault}" for fault in self.faults]
        bare = "; the bucket keeps no versions: an edited line could not be restored from it"
        return [*told, *faults, f"{len(told)} lines, {len(faults)} faults{bare if self.versioned is False else ''}"]


def _override(line: LedgerEntry) -> str:
    """What stands behind a decision with looser margins than params.yaml."""
    looser = line.evidence.get("looser")
    if not looser:
        return ""
    return f" [LOOSER than params.yaml: {'; '.join(looser)}; reason: {line.evidence.get('override_reason', '')}]"


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
) -> PromoteResult:
    """Judge a version (default: the challenger) against the champion on the same patients; move the alias, or not.

    agreed  the settings of params.yaml: where `params` are looser, a reason must be given, and the ledger names both

    Raises
        UsageError: looser margins without a reason.
        Rejected, NotEnoughEvidence: the gate said no, or cannot tell; the numbers are in the message.
        DataError: no such model or version; ledger and aliases disagree.
        s3.Conflict: another promotion was faster.
    """
    looser = [] if agreed is None else strictness.looser(params, agreed)
    if looser and not reason.strip() and not dry_run:
        hint = "give --reason TEXT, which the ledger keeps, or promote with params.yaml as it is"
        raise UsageError(f"looser than params.yaml: {'; '.join(looser)}", "the promotion", hint)
    with (
        tracking.service() as client,
        tempfile.TemporaryDirectory(prefix="mcti-promote-", ignore_cleanup_errors=True) as scratch,
    ):
        challenger = _challenger(client, name, version)
        lines = promotion.checked(client, name)
        champion = models.version_by_alias(client, name, models.CHAMPION)
        number = int(challenger.version)
        if champion is not None and champion.version == challenger.version:
            reason = f"version {number} is the champion already"
            return _result(name, number, gates.UNCHANGED, reason, number, dry_run=dry_run)
        judgement = _judge(challenger, champion, lines, params, Path(scratch))
        told = _circumstances(challenger, params) | ({"looser": looser, "override_reason": reason} if looser else {})
        line = None if dry_run else _decide(client, lines, challenger, judgement, told)
    _refuse(judgement, name, number)
    after = number if line is not None else (int(champion.version) if champion is not None else None)
    return _result(
        name,
        number,
        judgement.outcome,
        judgement.reason,
        after,
        lead=judgement.lead,
        gates=judgement.gates,
        line=line.number if line else None,
        dry_run=dry_run,
    )


def repair(name: str, *, dry_run: bool = False) -> RepairResult:
    """Set the aliases to what the ledger says, and write down when a version was deleted by hand; judges nothing.

    Raises DataError when the ledger itself is broken: that no command can mend.
    """
    with tracking.service() as client:
        found = promotion.findings(client, name, ledger.read(name)) if dry_run else promotion.hint(client, name)
        champion = models.version_by_alias(client, name, models.CHAMPION)
    number = None if champion is None else int(champion.version)
    return RepairResult(name=name, champion=number, mended=tuple(found), dry_run=dry_run)


def approve(name: str, version: int | None = None) -> ApproveResult:
    """Approve a version (default: the challenger) as the second pair of eyes; promote.approvals asks for so many.

    The approval is bound to the weights and the evidence as they are now: a renewed evaluation needs a new one.

    Raises DataError when the actor registered the version.
    """
    with tracking.service() as client:
        chosen = _challenger(client, name, version)
        who = approvals.approve(client, chosen)
        people = approvals.given(models.version_by_number(client, name, int(chosen.version)))
    return ApproveResult(name=name, version=int(chosen.version), who=who, approved=tuple(people))


def rollback(name: str) -> PromoteResult:
    """Give the alias `champion` back to the version before, and write it down.

    Raises DataError when there is none before.
    """
    with tracking.service() as client:
        line = promotion.rollback(client, name)
    return _result(
        name, line.version, line.action, line.evidence["reason"], line.champion, line=line.number, dry_run=False
    )


def verify_ledger(name: str) -> LedgerResult:
    """The ledger when it is whole and the aliases are what it says.

    Raises DataError naming every line edited, lost or reordered and every alias moved by hand.
    """
    found = show_ledger(name)
    if found.faults:
        hint = "`mcti promote --repair` mends the aliases; an altered line must come back from a backup of the bucket"
        raise DataError("; ".join(found.faults), f"ledger of {name}", hint)
    return found


def show_ledger(name: str) -> LedgerResult:
    """All lines, and what is wrong with them."""
    with tracking.service() as client:
        lines = ledger.read(name)
        faults = promotion.findings(client, name, lines)
    versioned = s3.has_versioning(ledger.folder(name))
    return LedgerResult(name=name, entries=tuple(lines), faults=tuple(faults), versioned=versioned)


def _challenger(client: Any, name: str, version: int | None) -> Any:
    if version is not None:
        return models.version_by_number(client, name, version)
    found = models.version_by_alias(client, name, models.CHALLENGER)
    if found is None:
        raise DataError("no version carries the alias challenger", f"model {name}", "run `mcti register` first")
    return found


def _judge(
    challenger: Any, champion: Any | None, lines: list[LedgerEntry], params: PromoteParams, scratch: Path
) -> GateEvaluation:
    ours = Candidate(challenger, scratch / "ours")
    theirs = None if champion is None else Candidate(champion, scratch / "theirs")
    return gate_evaluation.judge(ours, theirs, lines, params)


def _decide(
    client: Any, lines: list[LedgerEntry], challenger: Any, judgement: GateEvaluation, told: dict[str, Any]
) -> LedgerEntry:
    line = promotion.decide(client, lines, challenger.name, int(challenger.version), judgement, told)
    tracking.log_json(client, models.run_of(challenger), f"promotion/line_{line.number}.json", line)
    return line


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


def _refuse(judgement: GateEvaluation, name: str, version: int) -> None:
    refusal = {gates.REJECT: Rejected, gates.NOT_ENOUGH_EVIDENCE: NotEnoughEvidence}.get(judgement.outcome)
    if refusal is not None:
        statistics = [g for g in judgement.gates if g.verdict == judgement.outcome and "events" in g.numbers]
        more = "; train on more patients" if statistics else ""  # which cures no leak, no cost, no missing approval
        raise refusal(judgement.reason, f"model {name}, version {version}", f"the champion stays{more}")


def _result(name: str, version: int, outcome: str, reason: str, champion: int | None, **more: Any) -> PromoteResult:
    fields = {"lead": None, "line": None} | more
    return PromoteResult(name=name, version=version, outcome=outcome, reason=reason, champion=champion, **fields)
