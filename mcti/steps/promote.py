"""promote, rollback and the ledger: who may be champion, on what evidence, and how to go back."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcti import storage
from mcti.errors import DataError, NotEnoughEvidence, Rejected
from mcti.params import PromoteParams
from mcti.registry import evidence, ledger, lineage, models, promotion, tracking
from mcti.registry.ledger import Line
from mcti.registry.promotion import Judgement, Lead
from mcti.steps.result import StepResult

if TYPE_CHECKING:
    import pandas as pd

BASELINE = "cox_clinical"


class PromoteResult(StepResult):
    """The decision: `champion` is the version that carries the alias afterwards, `line` the ledger's number."""

    name: str
    version: int
    outcome: str
    reason: str
    champion: int | None
    lead: Lead | None
    line: int | None
    dry_run: bool
    mended: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For people."""
        mended = [f"mended: {sentence}" for sentence in self.mended]
        tried = " (dry run: nothing was moved)" if self.dry_run else ""
        return [*mended, f"{self.name} version {self.version}: {self.outcome}: {self.reason}{tried}"]


class LedgerResult(StepResult):
    """The ledger of a model: `faults` is empty when every line and every alias is as it was written."""

    name: str
    entries: tuple[Line, ...]
    faults: tuple[str, ...]

    def lines(self) -> list[str]:
        """For people: a line a decision, then what is wrong."""
        told = [
            f"{line.number} {line.time} {line.who} {line.action} version {line.version} -> champion {line.champion}: "
            f"{line.evidence.get('reason', '')}"
            for line in self.entries
        ]
        return [*told, *(f"FAULT {fault}" for fault in self.faults), f"{len(told)} lines, {len(self.faults)} faults"]


def promote(
    name: str, params: PromoteParams, *, version: int | None = None, dry_run: bool = False, repair: bool = False
) -> PromoteResult:
    """Judge a version (default: the challenger) against the champion on the same patients; move the alias, or not.

    Raises
        Rejected, NotEnoughEvidence: the gate said no, or cannot tell; the numbers are in the message.
        DataError: no such model or version; ledger and aliases disagree.
        storage.Conflict: another promotion was faster.
    """
    with tracking.service() as client, tempfile.TemporaryDirectory(prefix="mcti-promote-") as scratch:
        mended = tuple(promotion.mend(client, name)) if repair else ()
        challenger = _challenger(client, name, version)
        champion = models.by_alias(client, name, models.CHAMPION)
        number = int(challenger.version)
        if champion is not None and champion.version == challenger.version:
            reason = f"version {number} is the champion already"
            return _result(name, number, promotion.UNCHANGED, reason, number, mended=mended, dry_run=dry_run)
        judgement = _judge(challenger, champion, params, Path(scratch))
        line = (
            None if dry_run else promotion.decide(client, name, number, judgement, _circumstances(challenger, params))
        )
        if line is not None:
            tracking.log_json(client, challenger.tags["mcti.run_id"], f"promotion/line_{line.number}.json", line)
    _refuse(judgement, name, number)
    after = number if line is not None else (int(champion.version) if champion is not None else None)
    return _result(
        name,
        number,
        judgement.outcome,
        judgement.reason,
        after,
        lead=judgement.lead,
        line=line.number if line else None,
        mended=mended,
        dry_run=dry_run,
    )


def rollback(name: str) -> PromoteResult:
    """Give the alias `champion` back to the version before, and write it down.

    Raises DataError when there is none before.
    """
    with tracking.service() as client:
        line = promotion.rollback(client, name)
    reason = f"version {line.evidence['withdrawn']} was withdrawn"
    return _result(name, line.version, line.action, reason, line.champion, line=line.number, dry_run=False)


def verify_ledger(name: str) -> LedgerResult:
    """The ledger when it is whole and the aliases are what it says.

    Raises DataError naming every line edited, lost or reordered and every alias moved by hand.
    """
    found = show_ledger(name)
    if found.faults:
        mend = "`mcti promote --repair` mends the aliases; an altered line must come back from a backup of the bucket"
        raise DataError("; ".join(found.faults), f"ledger of {name}", mend)
    return found


def show_ledger(name: str) -> LedgerResult:
    """All lines, and what is wrong with them."""
    with tracking.service() as client:
        lines = ledger.read(name)
        faults = promotion.findings(client, name, lines)
    return LedgerResult(name=name, entries=tuple(lines), faults=tuple(faults))


def _challenger(client: Any, name: str, version: int | None) -> Any:
    if version is not None:
        return models.by_number(client, name, version)
    found = models.by_alias(client, name, models.CHALLENGER)
    if found is None:
        raise DataError("no version carries the alias challenger", f"model {name}", "run `mcti register` first")
    return found


def _judge(challenger: Any, champion: Any | None, params: PromoteParams, scratch: Path) -> Judgement:
    run_id = challenger.tags["mcti.run_id"]
    if champion is None:
        metrics = storage.read_json(evidence.fetch(run_id, "metrics.json", scratch))
        return promotion.judge_first(_against_baseline(metrics))
    ours = evidence.predictions(evidence.fetch(run_id, "predictions.csv", scratch / "ours"))
    theirs = evidence.predictions(evidence.fetch(champion.tags["mcti.run_id"], "predictions.csv", scratch / "theirs"))
    return promotion.judge(lead(ours, theirs, f"champion version {champion.version}", params), params)


def lead(ours: "pd.DataFrame", theirs: "pd.DataFrame", against: str, params: PromoteParams) -> Lead:
    """C-index of one model minus that of another on the patients both have out-of-fold risks for.

    Each predictions table has patient_id, fold, risk, time_months, event; follow-up is taken from `ours`, the newer
    one. Each model's concordance is counted within its own folds; patients are resampled together (paired).
    """
    from mcti.evaluation import comparison, metrics
    from mcti.evaluation.outcomes import Outcomes

    common = set(ours["patient_id"]) & set(theirs["patient_id"])
    patients = ours[ours["patient_id"].isin(common)].drop_duplicates("patient_id").sort_values("patient_id")
    events = int(patients["event"].sum())
    if events == 0:
        return Lead(against=against, value=0.0, low=None, high=None, patients=len(patients), events=0)
    scores = []
    for table in (ours, theirs):
        rows = table[table["patient_id"].isin(common)].sort_values(["fold", "patient_id"])
        tested = {int(str(fold)): list(part["patient_id"]) for fold, part in rows.groupby("fold")}
        everybody = list(patients["patient_id"])
        folds = {fold: ([p for p in everybody if p not in set(test)], test) for fold, test in tested.items()}
        scores.append(metrics.c_index(Outcomes.of(patients, folds), rows["risk"].to_numpy(dtype=float)))
    draws = comparison.resamples(patients["event"].to_numpy() == 1, params.bootstrap, params.seed)
    difference = comparison.paired(scores[0], scores[1], draws, params.confidence).interval.as_dict()
    return Lead(against=against, patients=len(patients), events=events, **difference)


def _against_baseline(metrics: dict[str, Any]) -> Lead:
    ours = metrics[evidence.OURS]
    if BASELINE not in ours["comparison"]:
        mend = f"add {BASELINE} to evaluate.baselines and run `mcti evaluate` and `mcti register` again"
        raise DataError(f"the evaluation has no baseline {BASELINE}", "metrics.json of the challenger", mend)
    patients, events = (sum(fold[count] for fold in ours["folds"]) for count in ("patients", "events"))
    return Lead(against=BASELINE, patients=patients, events=events, **ours["comparison"][BASELINE]["difference"])


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


def _refuse(judgement: Judgement, name: str, version: int) -> None:
    refusal = {promotion.REJECT: Rejected, promotion.UNSURE: NotEnoughEvidence}.get(judgement.outcome)
    if refusal is not None:
        raise refusal(
            judgement.reason, f"model {name}, version {version}", "the champion stays; train on more patients"
        )


def _result(name: str, version: int, outcome: str, reason: str, champion: int | None, **more: Any) -> PromoteResult:
    fields = {"lead": None, "line": None} | more
    return PromoteResult(name=name, version=version, outcome=outcome, reason=reason, champion=champion, **fields)
