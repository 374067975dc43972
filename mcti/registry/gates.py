"""The promotion gates: each turns measurements into a verdict, all verdicts together into an outcome.

A gate reads no model and no file: `steps/promote/gate_evaluation.py` measures, this module decides (docs/registry.md).
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from mcti.params import PromoteParams
from mcti.registry.alpha_spending import Look
from mcti.registry.external_validations import ExternalValidation

PROMOTE, REJECT, NOT_ENOUGH_EVIDENCE, UNCHANGED = "promote", "reject", "not-enough-evidence", "unchanged"
CHANCE = 0.5
"""C of a model without information."""
PASS, INFORMATIONAL = "pass", "informational"
"""Verdicts of a gate next to REJECT and NOT_ENOUGH_EVIDENCE; informational: reported, does not decide."""


class Difference(BaseModel):
    """Challenger minus comparator on the same patients, with its interval; positive: the challenger is better."""

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
    """Result of one gate: verdict pass | informational | reject | not-enough-evidence, reason, numbers behind it."""

    model_config = ConfigDict(frozen=True)
    name: str
    verdict: str
    reason: str
    numbers: dict[str, Any] = {}


class GateEvaluation(BaseModel):
    """The outcome of all gates; difference: in Uno's C against the champion, or in C against the first baseline."""

    model_config = ConfigDict(frozen=True)
    outcome: str
    reason: str
    difference: Difference | None
    gates: tuple[Gate, ...]
    look: Look | None = None


def combine(gates: Sequence[Gate], difference: Difference | None, look: Look | None = None) -> GateEvaluation:
    """reject where one gate rejects; else not-enough-evidence where one gate lacks evidence; else promote."""
    for outcome in (REJECT, NOT_ENOUGH_EVIDENCE):
        reasons = [f"{gate.name}: {gate.reason}" for gate in gates if gate.verdict == outcome]
        if reasons:
            return GateEvaluation(
                outcome=outcome, reason="; ".join(reasons), difference=difference, gates=tuple(gates), look=look
            )
    return GateEvaluation(outcome=PROMOTE, reason=gates[0].reason, difference=difference, gates=tuple(gates), look=look)


def superiority(difference: Difference, look: Look, params: PromoteParams) -> Gate:
    """Uno's C: the interval at the level of this look must be above or below the margin."""
    numbers = {**difference.model_dump(mode="json"), "level": look.alpha, "look": look.number, "margin": params.margin}

    def gate(verdict: str, reason: str) -> Gate:
        return Gate(name="superiority", verdict=verdict, reason=reason, numbers=numbers)

    if difference.events < params.min_events:
        few = f"{difference.events} events on {difference.patients} common patients"
        return gate(NOT_ENOUGH_EVIDENCE, f"{few}, fewer than promote.min_events {params.min_events}")
    if look.alpha <= 0:
        spent = f"{look.number - 1} evaluations have spent promote.alpha {params.alpha:g} on these patients"
        return gate(NOT_ENOUGH_EVIDENCE, f"{spent}: test on new patients")
    if difference.low is None or difference.high is None:
        return gate(NOT_ENOUGH_EVIDENCE, f"the interval of the difference cannot be computed: {difference}")
    level = f"look {look.number} of {look.of}, one-sided level {look.alpha:.4f}"
    if difference.low > params.margin:
        return gate(PASS, f"the difference is above {params.margin:g}: {difference}; {level}")
    if difference.high < params.margin:
        return gate(REJECT, f"the difference is below {params.margin:g}: {difference}; {level}")
    return gate(
        NOT_ENOUGH_EVIDENCE, f"the interval of the difference contains {params.margin:g}: {difference}; {level}"
    )


def non_inferiority(name: str, difference: Difference, margin: float, evidence_required: bool = True) -> Gate:
    """The challenger may be worse by at most `margin`, in the unit of `difference` (positive: challenger is better).

    evidence_required  not-enough-evidence where non-inferiority is not shown; False: only shown inferiority rejects
    """
    numbers = {**difference.model_dump(mode="json"), "margin": margin}
    if difference.high is not None and difference.high < -margin:
        verdict, reason = REJECT, f"worse by more than {margin:g}: {difference}"
    elif difference.low is not None and difference.low > -margin:
        verdict, reason = PASS, f"not worse by {margin:g} or more: {difference}"
    elif evidence_required:
        verdict, reason = NOT_ENOUGH_EVIDENCE, f"not shown to be within {margin:g}: {difference}"
    else:
        verdict, reason = INFORMATIONAL, f"{difference.events} events, too few for a verdict: {difference}"
    return Gate(name=name, verdict=verdict, reason=reason, numbers=numbers)


def max_ratio(name: str, challenger: float, champion: float, limit: float, unit: str) -> Gate:
    """A cost of serving (latency, memory): at most `limit` times the champion's."""
    ratio = challenger / champion
    numbers = {"challenger": challenger, "champion": champion, "ratio": ratio, "limit": limit, "unit": unit}
    reason = f"{challenger:.3g} {unit}, {ratio:.2f} times the champion's {champion:.3g}; limit {limit:g}"
    return Gate(name=name, verdict=PASS if ratio <= limit else REJECT, reason=reason, numbers=numbers)


def data_contract(result: str, params: PromoteParams) -> Gate:
    """The data contract (`mcti validate`) of the training cohort; result: passed | failed | unknown."""
    if result == "passed":
        return Gate(name="data contract", verdict=PASS, reason="the cohort meets the data contract")
    if result == "failed":
        return Gate(name="data contract", verdict=REJECT, reason="the cohort fails a critical expectation")
    reason = "the version was registered without a result of `mcti validate` (mcti register --validation)"
    verdict = NOT_ENOUGH_EVIDENCE if params.require_contract else INFORMATIONAL
    return Gate(name="data contract", verdict=verdict, reason=reason)


def no_training_patients(trained: Mapping[str, int], tested: int) -> Gate:
    """No model may be evaluated on its own training patients; trained: their number among `tested`, by version."""
    violations = [
        f"{version}: {count} of {tested} test patients were in its training"
        for version, count in trained.items()
        if count
    ]
    reason = "; ".join(violations) or f"none of {tested} test patients was in the training, by the SHA-256 of their ids"
    verdict = REJECT if violations else PASS
    return Gate(name="unseen patients", verdict=verdict, reason=reason, numbers=dict(trained))


def external_validation(validations: Sequence[ExternalValidation], params: PromoteParams) -> Gate:
    """Uno's C must be shown to be above chance in a cohort that the version never saw (`mcti test`)."""
    enough = [validation for validation in validations if validation.events >= params.min_events]
    numbers = {v.cohort: {**v.uno_c, "patients": v.patients, "events": v.events} for v in validations}

    def gate(verdict: str, reason: str) -> Gate:
        return Gate(name="external validation", verdict=verdict, reason=reason, numbers=numbers)

    if not enough:
        most = max((validation.events for validation in validations), default=None)
        few = "no external validation" if most is None else f"at most {most} events in an external validation"
        return gate(NOT_ENOUGH_EVIDENCE, f"{few}; {params.min_events} are needed: run `mcti test` on this version")
    below = [v.cohort for v in enough if v.uno_c["high"] is not None and v.uno_c["high"] < CHANCE]
    above = [v.cohort for v in enough if v.uno_c["low"] is not None and v.uno_c["low"] > CHANCE]
    if below:
        return gate(REJECT, f"Uno's C is below {CHANCE} on {', '.join(below)}")
    if not above:
        return gate(NOT_ENOUGH_EVIDENCE, f"Uno's C is not shown to be above {CHANCE} on any external cohort")
    return gate(PASS, f"Uno's C is above {CHANCE} on {', '.join(above)}")


def recalibration(validations: Sequence[ExternalValidation], parent: str, champion: str, params: PromoteParams) -> Gate:
    """A recalibrated version must have a smaller integrated Brier score than its parent, the champion.

    The patients are those of its external validations, on whom it was not recalibrated. The ranking of both is equal,
    so that superiority in C is not defined. parent, champion: numbers of the versions, champion empty: none.
    """
    compared = [v for v in validations if v.ibs_difference is not None and v.events >= params.min_events]
    numbers = {v.cohort: {**(v.ibs_difference or {}), "patients": v.patients, "events": v.events} for v in compared}

    def gate(verdict: str, reason: str) -> Gate:
        return Gate(name="recalibration", verdict=verdict, reason=reason, numbers=numbers)

    if champion != parent:
        current = f"version {champion}" if champion else "not set"
        return gate(NOT_ENOUGH_EVIDENCE, f"the champion is {current}: promote the parent, version {parent}, first")
    if not compared:
        needed = f"{params.min_events} events are needed"
        return gate(NOT_ENOUGH_EVIDENCE, f"no external validation against version {parent}; {needed}")
    ends = {end: {v.cohort: (v.ibs_difference or {})[end] for v in compared} for end in ("low", "high")}
    worse = [cohort for cohort, low in ends["low"].items() if low is not None and low > 0]
    better = [cohort for cohort, high in ends["high"].items() if high is not None and high < 0]
    metric = "the integrated Brier score"
    if worse:
        return gate(REJECT, f"{metric} is above that of version {parent} on {', '.join(worse)}")
    if not better:
        return gate(NOT_ENOUGH_EVIDENCE, f"{metric} is not shown to be below that of version {parent}")
    return gate(PASS, f"{metric} is below that of version {parent} on {', '.join(better)}")


def no_recalibration_patients(counts: Mapping[str, int]) -> Gate:
    """No external validation may contain patients of the recalibration; counts: their number by cohort."""
    violations = [f"{count} patients of the validation on {cohort}" for cohort, count in counts.items() if count]
    reason = f"the recalibration used {', '.join(violations)}" if violations else "none, by the SHA-256 of their ids"
    verdict = REJECT if violations else PASS
    return Gate(name="patients of the recalibration", verdict=verdict, reason=reason, numbers=dict(counts))


def approval(approvers: Iterable[str], params: PromoteParams, signatures: Sequence[Mapping[str, Any]] = ()) -> Gate:
    """`promote.approvals` persons other than the one who registered the version must have approved it.

    signatures  records of the electronic signatures among the approvals; the ledger has them
    """
    names = sorted(set(approvers))
    unit = "signed approvals" if params.signed_approvals else "approvals"
    counted = f"{len(names)} of {params.approvals} {unit} ({', '.join(names) or 'none yet'})"
    enough = len(names) >= params.approvals
    command = "mcti approve --meaning TEXT" if params.signed_approvals else "mcti approve"
    reason = counted if enough else f"{counted}: run `{command}`"
    numbers = {"approved": names, "signatures": [dict(one) for one in signatures]}
    return Gate(name="approval", verdict=PASS if enough else NOT_ENOUGH_EVIDENCE, reason=reason, numbers=numbers)


def primary_baseline(c_index: Difference, brier: Difference, params: PromoteParams) -> Gate:
    """The challenger against the primary baseline of its own evaluation, on the same patients and resamples.

    Shown to be worse in one of the two differences (`promote.confidence`): reject. With `promote.require_baseline`, not
    shown to be within the margin in both: not-enough-evidence. All gates must pass, and both differences must pass here
    (an intersection-union test), so the level of each needs no correction (Berger 1982, Technometrics 24:295-300).

    c_index  difference in Uno's C;  brier  decrease of the integrated Brier score; positive: the challenger is better
    """
    margins = {"C": (c_index, params.baseline_margin), "Brier score": (brier, params.baseline_ibs_margin)}
    worse = [name for name, (d, margin) in margins.items() if d.high is not None and d.high < -margin]
    within = [name for name, (d, margin) in margins.items() if d.low is not None and d.low > -margin]
    better = c_index.low is not None and c_index.low > 0
    verdict = REJECT if worse else PASS if len(within) == 2 or not params.require_baseline else NOT_ENOUGH_EVIDENCE
    shown = "shown to be better" if better else "NOT shown to be better"
    summary = f"shown to be worse in {' and '.join(worse)}" if worse else shown
    numbers = {
        **c_index.model_dump(mode="json"),
        "margin": params.baseline_margin,
        "better": better,
        "worse": worse,
        "brier": {**brier.model_dump(mode="json"), "margin": params.baseline_ibs_margin},
    }
    reason = f"{summary} than the primary baseline: {c_index}; {brier}"
    return Gate(name="primary baseline", verdict=verdict, reason=reason, numbers=numbers)


def no_primary_baseline(params: PromoteParams) -> Gate:
    """The evaluation has no predictions of its primary baseline, for example of one that needs slides."""
    reason = "the evaluation has no predictions of a primary baseline (evaluate.primary_baseline)"
    verdict = NOT_ENOUGH_EVIDENCE if params.require_baseline else INFORMATIONAL
    return Gate(name="primary baseline", verdict=verdict, reason=reason)


def first_champion(difference: Difference) -> Gate:
    """The first champion has no predecessor to be compared with; the clinical Cox baseline is reported."""
    better = difference.low is not None and difference.low > 0
    verdict = "better than" if better else "NOT shown to be better than"
    reason = f"first champion; {verdict} the clinical Cox baseline: {difference}"
    numbers = {**difference.model_dump(mode="json"), "better": better}
    return Gate(name="first champion", verdict=PASS, reason=reason, numbers=numbers)
