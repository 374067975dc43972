"""Gates: from measurements to verdicts, and from verdicts to one outcome."""

import pytest

from mcti.params import PromoteParams
from mcti.registry import gates
from mcti.registry.alpha_spending import Look
from mcti.registry.external_validations import ExternalValidation
from mcti.registry.gates import Difference, Gate

PARAMS = PromoteParams(margin=0.01, min_events=20)
LOOK = Look(test_set="t", signature=(), number=2, of=10, spent=0.01, alpha=0.005, pair="a:b")


def difference(low, high, events=50):
    value = None if low is None else (low + high) / 2
    return Difference(metric="Uno's C", against="champion version 1", value=value, low=low, high=high, patients=200,
                      events=events)  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.02, 0.08, "pass"),
        (0.01, 0.08, "not-enough-evidence"),  # touching the margin is not above it
        (-0.05, 0.05, "not-enough-evidence"),
        (-0.08, 0.01, "not-enough-evidence"),
        (-0.08, 0.009, "reject"),
        (None, None, "not-enough-evidence"),
    ],
)
def test_the_interval_of_the_difference_decides(low, high, verdict):
    assert gates.superiority(difference(low, high), LOOK, PARAMS).verdict == verdict


def test_below_the_minimum_of_events_no_difference_is_enough_evidence():
    gate = gates.superiority(difference(0.2, 0.4, events=19), LOOK, PARAMS)
    assert gate.verdict == "not-enough-evidence"
    assert "19 events" in gate.reason


def test_a_spent_test_set_requires_new_patients_for_any_difference():
    gate = gates.superiority(difference(0.2, 0.4), LOOK.model_copy(update={"number": 11, "alpha": 0.0}), PARAMS)
    assert gate.verdict == "not-enough-evidence"
    assert "10 evaluations have spent promote.alpha 0.05" in gate.reason
    assert "new patients" in gate.reason


@pytest.mark.parametrize(
    ("low", "high", "evidence_required", "verdict"),
    [
        (-0.09, 0.02, True, "pass"),
        (-0.1, 0.02, True, "not-enough-evidence"),  # touching the margin is not within it
        (-0.3, 0.2, True, "not-enough-evidence"),
        (-0.3, 0.2, False, "informational"),
        (-0.3, -0.11, True, "reject"),
        (-0.3, -0.11, False, "reject"),  # inferiority that is shown also rejects in a small group
        (None, None, True, "not-enough-evidence"),
    ],
)
def test_non_inferiority_is_shown_refuted_or_undecided(low, high, evidence_required, verdict):
    assert gates.non_inferiority("subtype a", difference(low, high), 0.1, evidence_required).verdict == verdict


@pytest.mark.parametrize(("challenger", "verdict"), [(2.0, "pass"), (2.01, "reject")])
def test_a_cost_above_its_limit_rejects_with_both_numbers(challenger, verdict):
    gate = gates.max_ratio("latency", challenger, 1.0, 2.0, "s")
    assert gate.verdict == verdict
    assert "champion's 1" in gate.reason


@pytest.mark.parametrize(
    ("result", "required", "verdict"),
    [
        ("passed", True, "pass"),
        ("failed", True, "reject"),
        ("failed", False, "reject"),
        ("unknown", True, "not-enough-evidence"),
        ("unknown", False, "informational"),
    ],
)
def test_the_data_contract_must_be_met_and_known(result, required, verdict):
    assert gates.data_contract(result, PromoteParams(require_contract=required)).verdict == verdict


def test_one_test_patient_in_the_training_rejects_with_the_version():
    gate = gates.no_training_patients({"version 2": 1, "version 1": 0}, 90)
    assert gate.verdict == "reject"
    assert gate.reason == "version 2: 1 of 90 test patients were in its training"


@pytest.mark.parametrize(("approvers", "verdict"), [(["anna"], "not-enough-evidence"), (["anna", "ben"], "pass")])
def test_two_persons_must_approve_and_one_person_counts_once(approvers, verdict):
    assert gates.approval([*approvers, approvers[0]], PromoteParams(approvals=2)).verdict == verdict


@pytest.mark.parametrize(
    ("low", "words"),
    [(0.01, "; better than the clinical Cox"), (-0.01, "NOT shown to be better"), (None, "NOT shown to be better")],
)
def test_the_first_champion_reports_the_comparison_with_the_baseline(low, words):
    gate = gates.first_champion(difference(low, None if low is None else 0.1))
    assert gate.verdict == "pass"
    assert words in gate.reason


@pytest.mark.parametrize(
    ("c_index", "brier", "required", "verdict", "words"),
    [
        ((0.01, 0.09), (0.001, 0.02), False, "pass", "shown to be better than the primary baseline: Uno's C"),
        ((-0.04, 0.09), (-0.01, 0.02), False, "pass", "NOT shown to be better"),
        ((-0.04, 0.09), (-0.01, 0.02), True, "not-enough-evidence", "NOT shown to be better"),
        ((0.01, 0.09), (-0.01, 0.02), True, "not-enough-evidence", "shown to be better"),  # Brier score undecided
        ((0.01, 0.09), (0.001, 0.02), True, "pass", "shown to be better"),
        ((-0.09, -0.01), (0.001, 0.02), False, "reject", "shown to be worse in C than"),
        ((0.01, 0.09), (-0.02, -0.001), False, "reject", "shown to be worse in Brier score than"),
        ((-0.09, -0.01), (-0.02, -0.001), True, "reject", "shown to be worse in C and Brier score than"),
        ((-0.09, 0.0), (-0.02, 0.0), False, "pass", "NOT shown to be better"),  # touching the margin is not beyond it
        ((None, None), (None, None), False, "pass", "NOT shown to be better"),
        ((None, None), (None, None), True, "not-enough-evidence", "NOT shown to be better"),
    ],
)
def test_a_challenger_that_is_shown_to_be_worse_than_the_primary_baseline_is_rejected(
    c_index, brier, required, verdict, words
):
    params = PromoteParams(require_baseline=required)
    gate = gates.primary_baseline(difference(*c_index), difference(*brier), params)
    assert gate.verdict == verdict
    assert gate.reason.startswith(words)
    assert gate.numbers["brier"]["low"] == brier[0]
    assert gates.combine([gate], None).outcome == {"pass": "promote"}.get(verdict, verdict)


def test_the_margins_of_the_primary_baseline_permit_that_much_less():
    lower = difference(-0.09, -0.01), difference(-0.02, -0.001)
    assert gates.primary_baseline(*lower, PromoteParams(baseline_margin=0.02)).reason.startswith(
        "shown to be worse in Brier score"
    )
    within = PromoteParams(baseline_margin=0.1, baseline_ibs_margin=0.03, require_baseline=True)
    assert gates.primary_baseline(*lower, within).verdict == "pass"


@pytest.mark.parametrize(("required", "verdict"), [(False, "informational"), (True, "not-enough-evidence")])
def test_an_evaluation_without_its_primary_baseline_is_no_evidence(required, verdict):
    assert gates.no_primary_baseline(PromoteParams(require_baseline=required)).verdict == verdict


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        (["pass", "informational"], "promote"),
        (["pass", "not-enough-evidence"], "not-enough-evidence"),
        (["pass", "not-enough-evidence", "reject"], "reject"),
    ],
)
def test_reject_precedes_not_enough_evidence_precedes_promote(verdicts, outcome):
    results = [Gate(name=f"g{i}", verdict=v, reason=f"r{i}") for i, v in enumerate(verdicts)]
    evaluation = gates.combine(results, None)
    assert evaluation.outcome == outcome
    if outcome != "promote":
        assert evaluation.reason == f"g{verdicts.index(outcome)}: r{verdicts.index(outcome)}"


def external(cohort: str, events: int, low: float, high: float) -> ExternalValidation:
    return ExternalValidation(cohort, 100, events, {"value": (low + high) / 2, "low": low, "high": high})


@pytest.mark.parametrize(
    ("validations", "verdict", "reason"),
    [
        ([], gates.NOT_ENOUGH_EVIDENCE, "no external validation"),
        ([external("a", 19, 0.6, 0.8)], gates.NOT_ENOUGH_EVIDENCE, "at most 19 events"),
        ([external("a", 20, 0.5, 0.8)], gates.NOT_ENOUGH_EVIDENCE, "not shown to be above 0.5"),
        ([external("a", 20, 0.51, 0.8)], gates.PASS, "above 0.5 on a"),
        ([external("a", 20, 0.51, 0.8), external("b", 20, 0.3, 0.7)], gates.PASS, "above 0.5 on a"),
        ([external("a", 20, 0.51, 0.8), external("b", 20, 0.3, 0.49)], gates.REJECT, "below 0.5 on b"),
    ],
)
def test_the_external_validation_must_be_above_chance(validations, verdict, reason):
    gate = gates.external_validation(validations, PromoteParams(min_events=20, external=True))
    assert gate.verdict == verdict
    assert reason in gate.reason


def recalibrated(cohort: str, events: int, low: float, high: float) -> ExternalValidation:
    difference = {"value": (low + high) / 2, "low": low, "high": high}
    uno_c = {"value": 0.7, "low": 0.6, "high": 0.8}
    return ExternalValidation(cohort, 100, events, uno_c, ibs_difference=difference)


@pytest.mark.parametrize(
    ("validations", "champion", "verdict", "reason"),
    [
        ([recalibrated("a", 20, -0.2, -0.1)], "3", gates.PASS, "below that of version 3 on a"),
        ([recalibrated("a", 20, -0.2, 0.1)], "3", gates.NOT_ENOUGH_EVIDENCE, "not shown to be below"),
        ([recalibrated("a", 20, 0.1, 0.2)], "3", gates.REJECT, "above that of version 3 on a"),
        ([recalibrated("a", 19, -0.2, -0.1)], "3", gates.NOT_ENOUGH_EVIDENCE, "20 events are needed"),
        ([external("a", 20, 0.6, 0.8)], "3", gates.NOT_ENOUGH_EVIDENCE, "no external validation against version 3"),
        ([recalibrated("a", 20, -0.2, -0.1)], "", gates.NOT_ENOUGH_EVIDENCE, "the champion is not set"),
        ([recalibrated("a", 20, -0.2, -0.1)], "4", gates.NOT_ENOUGH_EVIDENCE, "the champion is version 4"),
    ],
)
def test_a_recalibrated_version_needs_a_smaller_brier_score_than_its_parent(validations, champion, verdict, reason):
    gate = gates.recalibration(validations, "3", champion, PromoteParams(min_events=20))
    assert gate.verdict == verdict
    assert reason in gate.reason


def test_patients_of_the_recalibration_in_a_validation_reject():
    assert gates.no_recalibration_patients({"a": 0}).verdict == gates.PASS
    assert gates.no_recalibration_patients({"a": 0, "b": 2}).verdict == gates.REJECT
