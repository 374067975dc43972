"""The gate: three outcomes from the interval of the lead."""

import pytest

from mcti.params import PromoteParams
from mcti.registry import promotion
from mcti.registry.promotion import Lead

PARAMS = PromoteParams(margin=0.01, min_events=20)


def lead(low, high, events=50):
    return Lead(against="champion version 1", value=0.0 if low is None else (low + high) / 2, low=low, high=high,
                patients=200, events=events)  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.02, 0.08, "promote"),
        (0.01, 0.08, "not-enough-evidence"),  # touching the margin is not above it
        (-0.05, 0.05, "not-enough-evidence"),
        (-0.08, 0.01, "not-enough-evidence"),
        (-0.08, 0.009, "reject"),
        (None, None, "not-enough-evidence"),
    ],
)
def test_the_interval_of_the_lead_decides(low, high, outcome):
    assert promotion.judge(lead(low, high), PARAMS).outcome == outcome


def test_too_few_events_are_not_enough_evidence_however_large_the_lead():
    judged = promotion.judge(lead(0.2, 0.4, events=19), PARAMS)
    assert judged.outcome == "not-enough-evidence"
    assert "19 events" in judged.reason


@pytest.mark.parametrize(("low", "words"), [(0.01, "it beats"), (-0.01, "does NOT beat"), (None, "does NOT beat")])
def test_the_first_champion_says_plainly_whether_it_beats_the_baseline(low, words):
    judged = promotion.judge_first(lead(low, None if low is None else 0.1))
    assert judged.outcome == "promote"
    assert words in judged.reason
