"""The gate between challenger and champion, and the one way aliases move (docs/registry.md)."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from mcti.errors import DataError
from mcti.params import PromoteParams
from mcti.registry import ledger, models
from mcti.registry.ledger import Line

PROMOTE, REJECT, UNSURE, UNCHANGED = "promote", "reject", "not-enough-evidence", "unchanged"
_HEAD = "mcti.ledger_head"


class Lead(BaseModel):
    """By how much the challenger leads: a difference of C-indices on the same patients, with its interval."""

    model_config = ConfigDict(frozen=True)
    against: str
    value: float
    low: float | None
    high: float | None
    patients: int
    events: int

    def __str__(self) -> str:
        ends = "no interval" if self.low is None or self.high is None else f"{self.low:+.3f} to {self.high:+.3f}"
        return (
            f"C-index {self.value:+.3f} ({ends}) against {self.against}, {self.patients} patients, {self.events} events"
        )


class Judgement(BaseModel):
    """What the gate says and why."""

    model_config = ConfigDict(frozen=True)
    outcome: str
    reason: str
    lead: Lead


def judge(lead: Lead, params: PromoteParams) -> Judgement:
    """Challenger against champion: the interval of the lead must clear the margin on one side or the other."""
    if lead.events < params.min_events:
        reason = f"{lead.events} events on common patients, fewer than promote.min_events {params.min_events}"
        return Judgement(outcome=UNSURE, reason=reason, lead=lead)
    if lead.low is None or lead.high is None:
        return Judgement(outcome=UNSURE, reason="the interval of the lead cannot be computed", lead=lead)
    if lead.low > params.margin:
        return Judgement(outcome=PROMOTE, reason=f"the lead is above {params.margin:g}: {lead}", lead=lead)
    if lead.high < params.margin:
        return Judgement(outcome=REJECT, reason=f"the lead is below {params.margin:g}: {lead}", lead=lead)
    return Judgement(outcome=UNSURE, reason=f"the interval of the lead holds {params.margin:g}: {lead}", lead=lead)


def judge_first(lead: Lead) -> Judgement:
    """The first champion is promoted, and it is said whether it beats the clinical baseline."""
    beats = lead.low is not None and lead.low > 0
    verdict = "first champion; it beats" if beats else "first champion; it does NOT beat"
    return Judgement(outcome=PROMOTE, reason=f"{verdict} the clinical Cox baseline: {lead}", lead=lead)


def decide(client: Any, name: str, version: int, judgement: Judgement, evidence: Mapping[str, Any]) -> Line:
    """Write the decision down, then move the aliases when it is to promote.

    Raises
        storage.Conflict: another decision came first; nothing was moved.
    """
    lines = checked(client, name)
    champion, previous = _aliases(client, name)
    after = (version, champion) if judgement.outcome == PROMOTE else (champion, previous)
    line = ledger.append(
        lines,
        action=judgement.outcome,
        model=name,
        version=version,
        champion=after[0],
        previous=after[1],
        evidence={**judgement.model_dump(mode="json"), **evidence},
    )
    _apply(client, line)
    return line


def rollback(client: Any, name: str) -> Line:
    """Give the alias `champion` back to the version before it.

    Raises
        DataError: there is no version before.
    """
    lines = checked(client, name)
    champion, previous = _aliases(client, name)
    if previous is None:
        raise DataError("there is no previous champion", f"model {name}", "promote a version first")
    models.by_number(client, name, previous)
    line = ledger.append(
        lines,
        action="rollback",
        model=name,
        version=previous,
        champion=previous,
        previous=_before(lines, previous),
        evidence={"withdrawn": champion},
    )
    _apply(client, line)
    return line


def checked(client: Any, name: str) -> list[Line]:
    """The ledger's lines, when the chain is whole and the aliases are what it says.

    Raises
        DataError: a line was edited, lost or reordered, or an alias moved without the ledger.
    """
    lines = ledger.read(name)
    found = findings(client, name, lines)
    if found:
        mend = "see `mcti ledger verify`; `mcti promote --repair` sets the aliases to what the ledger says"
        raise DataError(found[0], f"ledger of {name}", mend)
    return lines


def findings(client: Any, name: str, lines: list[Line]) -> list[str]:
    """All faults of the chain, and every alias that is not what the last line says."""
    found = ledger.faults(lines, _head(client, name))
    said = (lines[-1].champion, lines[-1].previous) if lines else (None, None)
    for alias, is_now, wanted in zip((models.CHAMPION, models.PREVIOUS), _aliases(client, name), said, strict=True):
        if is_now != wanted:
            found.append(
                f"alias {alias} is version {is_now}, the ledger says {wanted}: moved by hand, or a promotion was cut"
            )
    return found


def mend(client: Any, name: str) -> list[str]:
    """Set the aliases to what the last line says; what was wrong with them.

    Raises
        DataError: the chain itself is broken; that no command can mend.
    """
    lines = ledger.read(name)
    broken = ledger.faults(lines, _head(client, name))
    if broken:
        raise DataError(broken[0], f"ledger of {name}", "restore the ledger's objects from a backup of the bucket")
    found = findings(client, name, lines)
    if lines:
        _apply(client, lines[-1])
    return found


def _apply(client: Any, line: Line) -> None:
    for alias, number in ((models.PREVIOUS, line.previous), (models.CHAMPION, line.champion)):
        if number is not None:
            client.set_registered_model_alias(line.model, alias, str(number))
        elif models.by_alias(client, line.model, alias) is not None:
            client.delete_registered_model_alias(line.model, alias)
    client.set_registered_model_tag(line.model, _HEAD, f"{line.number}:{line.hash}")


def _aliases(client: Any, name: str) -> tuple[int | None, int | None]:
    found = (models.by_alias(client, name, alias) for alias in (models.CHAMPION, models.PREVIOUS))
    champion, previous = (None if version is None else int(version.version) for version in found)
    return champion, previous


def _before(lines: list[Line], champion: int) -> int | None:
    """Who was champion before `champion` became it."""
    promoted = [line for line in lines if line.action == PROMOTE and line.champion == champion]
    return promoted[-1].previous if promoted else None


def _head(client: Any, name: str) -> str | None:
    tags = client.get_registered_model(name).tags
    return str(tags[_HEAD]) if _HEAD in tags else None
