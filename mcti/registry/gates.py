"""The rules between challenger and champion: each gate turns numbers into a verdict, all of them into an outcome.

A gate knows no model and no file: `steps/judging.py` measures, this module decides (docs/registry.md).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from mcti.params import PromoteParams
from mcti.registry.alpha_spending import Look

PROMOTE, REJECT, NOT_ENOUGH_EVIDENCE, UNCHANGED = "promote", "reject", "not-enough-evidence", "unchanged"
PASS, INFORMATIONAL = "pass", "noted"
"""Verdicts of a gate beside REJECT and UNSURE; `noted`: measured and told, it does not rule."""


class Difference(BaseModel):
    """By how much the challenger leads: a difference on the same patients, with its interval."""

    model_config = ConfigDict(frozen=True)
    metric: str = "C-index"
    against: str
    value: float | None
    low: float | None
    high: float | None
    patients: int
    events: int

    def __str__(self) -> str:
        value = "not defined" if self.value is None else f"{self.value:+.3f}"
        ends = "no interval" if self.low is None or self.high is None else f"{self.low:+.3f} to {self.high:+.3f}"
        counts = f"{self.patients} patients, {self.events} events"
        return f"{self.metric} {value} ({ends}) against {self.against}, {counts}"


class Gate(BaseModel):
    """One gate's word: verdict pass | noted | reject | not-enough-evidence, the reason, the numbers behind it."""

    model_config = ConfigDict(frozen=True)
    name: str
    verdict: str
    reason: str
    numbers: dict[str, Any] = {}


class GateEvaluation(BaseModel):
    """What all gates together say."""

    model_config = ConfigDict(frozen=True)
    outcome: str
    reason: str
    lead: Difference | None
    gates: tuple[Gate, ...]
    look: Look | None = None


def conclude(gates: Sequence[Gate], lead: Difference | None, look: Look | None = None) -> GateEvaluation:
    """One gate that rejects rejects; else one that cannot tell leaves it open; else it is a promotion."""
    for outcome in (REJECT, NOT_ENOUGH_EVIDENCE):
        said = [f"{gate.name}: {gate.reason}" for gate in gates if gate.verdict == outcome]
        if said:
            return GateEvaluation(outcome=outcome, reason="; ".join(said), lead=lead, gates=tuple(gates), look=look)
    return GateEvaluation(outcome=PROMOTE, reason=gates[0].reason, lead=lead, gates=tuple(gates), look=look)


def superior(lead: Difference, look: Look, params: PromoteParams) -> Gate:
    """Uno's C: the interval at the level of this look must clear the margin on one side or the other."""
    numbers = {**lead.model_dump(mode="json"), "level": look.alpha, "look": look.number, "margin": params.margin}

    def gate(verdict: str, reason: str) -> Gate:
        return Gate(name="superiority", verdict=verdict, reason=reason, numbers=numbers)

    if lead.events < params.min_events:
        few = f"{lead.events} events on {lead.patients} common patients"
        return gate(NOT_ENOUGH_EVIDENCE, f"{few}, fewer than promote.min_events {params.min_events}")
    if look.alpha <= 0:
        used = f"{look.number - 1} judgements have used up promote.alpha {params.alpha:g} on these patients"
        return gate(NOT_ENOUGH_EVIDENCE, f"{used}: test on new patients")
    if lead.low is None or lead.high is None:
        return gate(NOT_ENOUGH_EVIDENCE, f"the interval of the lead cannot be computed: {lead}")
    at = f"look {look.number} of {look.of}, one-sided level {look.alpha:.4f}"
    if lead.low > params.margin:
        return gate(PASS, f"the lead is above {params.margin:g}: {lead}; {at}")
    if lead.high < params.margin:
        return gate(REJECT, f"the lead is below {params.margin:g}: {lead}; {at}")
    return gate(NOT_ENOUGH_EVIDENCE, f"the interval of the lead holds {params.margin:g}: {lead}; {at}")


def not_worse(name: str, lead: Difference, margin: float, must_show: bool = True) -> Gate:
    """Non-inferiority: `lead` is positive where the challenger is better; it may fall behind by `margin` at most.

    must_show: that it does not fall behind further has to be shown; else only the contrary, shown, rejects.
    """
    numbers = {**lead.model_dump(mode="json"), "margin": margin}
    if lead.high is not None and lead.high < -margin:
        return Gate(name=name, verdict=REJECT, reason=f"worse by more than {margin:g}: {lead}", numbers=numbers)
    if lead.low is not None and lead.low > -margin:
        return Gate(name=name, verdict=PASS, reason=f"not worse by {margin:g}: {lead}", numbers=numbers)
    if not must_show:
        reason = f"{lead.events} events, too few to rule on: {lead}"
        return Gate(name=name, verdict=INFORMATIONAL, reason=reason, numbers=numbers)
    reason = f"not shown to be within {margin:g}: {lead}"
    return Gate(name=name, verdict=NOT_ENOUGH_EVIDENCE, reason=reason, numbers=numbers)


def at_most(name: str, ours: float, theirs: float, times: float, unit: str) -> Gate:
    """A cost of serving: at most `times` the champion's."""
    ratio = ours / theirs
    numbers = {"challenger": ours, "champion": theirs, "ratio": ratio, "limit": times, "unit": unit}
    reason = f"{ours:.3g} {unit}, {ratio:.2f} times the champion's {theirs:.3g}; limit {times:g}"
    return Gate(name=name, verdict=PASS if ratio <= times else REJECT, reason=reason, numbers=numbers)


def contract(word: str, params: PromoteParams) -> Gate:
    """The data contract (`mcti validate`) of the cohort that the models were made from: passed | failed | unknown."""
    if word == "passed":
        return Gate(name="data contract", verdict=PASS, reason="the cohort keeps its contract")
    if word == "failed":
        return Gate(name="data contract", verdict=REJECT, reason="a critical expectation does not hold")
    reason = "no result of `mcti validate` came with the version (mcti register --validation)"
    verdict = NOT_ENOUGH_EVIDENCE if params.require_contract else INFORMATIONAL
    return Gate(name="data contract", verdict=verdict, reason=reason)


def unseen(seen: Mapping[str, int], tested: int) -> Gate:
    """No model may have been trained on a patient whom it is judged by; `seen`: how many of `tested`, by version."""
    guilty = [f"{who}: {count} of {tested} test patients were trained on" for who, count in seen.items() if count]
    reason = "; ".join(guilty) or f"none of {tested} test patients was trained on, by the SHA-256 of their ids"
    return Gate(name="unseen patients", verdict=REJECT if guilty else PASS, reason=reason, numbers=dict(seen))


def approval(people: Iterable[str], params: PromoteParams) -> Gate:
    """Enough people other than the one who registered the version have approved these very weights and evidence."""
    named = sorted(set(people))
    said = f"{len(named)} of {params.approvals} approvals ({', '.join(named) or 'none yet'})"
    enough = len(named) >= params.approvals
    reason = said if enough else f"{said}: `mcti approve`"
    return Gate(
        name="approval", verdict=PASS if enough else NOT_ENOUGH_EVIDENCE, reason=reason, numbers={"approved": named}
    )


def primary(lead: Difference, error: Difference | None) -> Gate:
    """The challenger against the primary baseline of its own evaluation: told of every promotion, it rules on none.

    lead: difference in C;  error: of the integrated Brier score as a lead (positive: the challenger errs less).
    """
    beats = lead.low is not None and lead.low > 0
    verdict = "it beats" if beats else "it was NOT shown to beat"
    told = f"{verdict} the primary baseline: {lead}" + ("" if error is None else f"; {error}")
    numbers = {**lead.model_dump(mode="json"), "beats": beats}
    if error is not None:
        numbers["brier"] = error.model_dump(mode="json")
    return Gate(name="primary baseline", verdict=INFORMATIONAL, reason=told, numbers=numbers)


def first(lead: Difference) -> Gate:
    """The first champion meets no rival; it is said plainly whether it beats the clinical Cox baseline."""
    beats = lead.low is not None and lead.low > 0
    verdict = "first champion; it beats" if beats else "first champion; it does NOT beat"
    numbers = {**lead.model_dump(mode="json"), "beats": beats}
    return Gate(
        name="first champion", verdict=PASS, reason=f"{verdict} the clinical Cox baseline: {lead}", numbers=numbers
    )
