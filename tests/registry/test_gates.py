"""The rules: numbers to verdicts, verdicts to one outcome."""

import pytest

from mcti.params import PromoteParams
from mcti.registry import gates
from mcti.registry.alpha_spending import Look
from mcti.registry.gates import Difference, Gate

PARAMS = PromoteParams(margin=0.01, min_events=20)
LOOK = Look(test_set="t", sketch=(), number=2, of=10, spent=0.01, alpha=0.005, pair="a:b")


def lead(low, high, events=50):
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
def test_the_interval_of_the_lead_decides(low, high, verdict):
    assert gates.superior(lead(low, high), LOOK, PARAMS).verdict == verdict


def test_too_few_events_are_not_enough_evidence_however_large_the_lead():
    judged = gates.superior(lead(0.2, 0.4, events=19), LOOK, PARAMS)
    assert judged.verdict == "not-enough-evidence"
    assert "19 events" in judged.reason


def test_a_used_up_test_set_asks_for_new_patients_however_large_the_lead():
    judged = gates.superior(lead(0.2, 0.4), LOOK.model_copy(update={"number": 11, "alpha": 0.0}), PARAMS)
    assert judged.verdict == "not-enough-evidence"
    assert "10 judgements have used up promote.alpha 0.05" in judged.reason
    assert "new patients" in judged.reason


@pytest.mark.parametrize(
    ("low", "high", "must_show", "verdict"),
    [
        (-0.09, 0.02, True, "pass"),
        (-0.1, 0.02, True, "not-enough-evidence"),  # touching the margin is not within it
        (-0.3, 0.2, True, "not-enough-evidence"),
        (-0.3, 0.2, False, "noted"),
        (-0.3, -0.11, True, "reject"),
        (-0.3, -0.11, False, "reject"),  # shown harm counts in a small group, too
        (None, None, True, "not-enough-evidence"),
    ],
)
def test_not_worse_is_shown_refuted_or_left_open(low, high, must_show, verdict):
    assert gates.not_worse("subtype a", lead(low, high), 0.1, must_show).verdict == verdict


@pytest.mark.parametrize(("ours", "verdict"), [(2.0, "pass"), (2.01, "reject")])
def test_a_cost_beyond_its_limit_rejects_with_both_numbers(ours, verdict):
    gate = gates.at_most("latency", ours, 1.0, 2.0, "s")
    assert gate.verdict == verdict
    assert "champion's 1" in gate.reason


@pytest.mark.parametrize(
    ("word", "required", "verdict"),
    [
        ("passed", True, "pass"),
        ("failed", True, "reject"),
        ("failed", False, "reject"),
        ("unknown", True, "not-enough-evidence"),
        ("unknown", False, "noted"),
    ],
)
def test_the_data_contract_must_be_kept_and_known(word, required, verdict):
    assert gates.contract(word, PromoteParams(require_contract=required)).verdict == verdict


def test_one_test_patient_in_training_rejects_and_says_of_which_version():
    gate = gates.unseen({"version 2": 1, "version 1": 0}, 90)
    assert gate.verdict == "reject"
    assert gate.reason == "version 2: 1 of 90 test patients were trained on"


@pytest.mark.parametrize(("people", "verdict"), [(["anna"], "not-enough-evidence"), (["anna", "ben"], "pass")])
def test_two_people_must_approve_and_one_person_twice_is_one(people, verdict):
    assert gates.approval([*people, people[0]], PromoteParams(approvals=2)).verdict == verdict


@pytest.mark.parametrize(("low", "words"), [(0.01, "it beats"), (-0.01, "does NOT beat"), (None, "does NOT beat")])
def test_the_first_champion_says_plainly_whether_it_beats_the_baseline(low, words):
    judged = gates.first(lead(low, None if low is None else 0.1))
    assert judged.verdict == "pass"
    assert words in judged.reason


@pytest.mark.parametrize(("low", "words"), [(0.01, "it beats"), (-0.01, "NOT shown to beat"), (None, "NOT shown")])
def test_the_primary_baseline_is_told_of_and_never_rules(low, words):
    error = lead(-0.02, 0.01)
    judged = gates.primary(lead(low, None if low is None else 0.1), error)
    assert judged.verdict == "noted"
    assert words in judged.reason
    assert judged.numbers["brier"]["low"] == -0.02
    assert gates.conclude([judged], None).outcome == "promote"


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        (["pass", "noted"], "promote"),
        (["pass", "not-enough-evidence"], "not-enough-evidence"),
        (["pass", "not-enough-evidence", "reject"], "reject"),
    ],
)
def test_a_no_outweighs_a_doubt_and_a_doubt_a_yes(verdicts, outcome):
    found = [Gate(name=f"g{i}", verdict=v, reason=f"r{i}") for i, v in enumerate(verdicts)]
    judged = gates.conclude(found, None)
    assert judged.outcome == outcome
    if outcome != "promote":
        assert judged.reason == f"g{verdicts.index(outcome)}: r{verdicts.index(outcome)}"
