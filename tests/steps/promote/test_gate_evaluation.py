"""The gate of the primary baseline on hand-worked patients, and a small version of the simulation of the other gates.

The simulation is that of benchmarks/registry_gates.py, which has 1,000 repetitions. Of 60 chains, a gate of 5 %
promotes a challenger in 8 or more with probability 1 % (binomial). Without alpha spending it does so in about one chain
of seven or more, so that the simulation detects a gate without spending.
"""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import registry_gates as simulation
from mcti.errors import DataError
from mcti.evaluation.paired_comparison import PairedComparison
from mcti.params import PromoteParams
from mcti.registry import gates
from mcti.steps.promote.gate_evaluation import GateContext, against_primary_baseline, check_same_endpoint

PARAMS = PromoteParams(bootstrap=400)
CHAINS = 60
MONTHS = np.arange(1.0, 13.0)  # twelve patients, each with the event, one per month, without censoring


def out_of_fold(risk, survival) -> pd.DataFrame:
    """Predictions of the twelve patients in one fold, with S(6)."""
    ids = [f"P{month:02.0f}" for month in MONTHS]
    columns = {"patient_id": ids, "fold": 0, "risk": risk, "S_6": survival, "time_months": MONTHS, "event": 1}
    return pd.DataFrame(columns)


def gate(challenger, baseline, **settings):
    """The gate of a challenger against a baseline, each (risk, S(6))."""
    paired = PairedComparison.from_tables(out_of_fold(*challenger), out_of_fold(*baseline), 0.99)
    return against_primary_baseline(GateContext(paired, "Cox", PromoteParams(bootstrap=200, **settings)))


RIGHT_ORDER, WRONG_ORDER = -MONTHS, MONTHS
RIGHT_CURVE, FLAT, WRONG_CURVE = (MONTHS > 6) * 1.0, 0.5, (MONTHS <= 6) * 1.0
"""Six patients survive month 6. Brier score at month 6: 0, 0.25 and 1 for every patient, so in every resample."""


@pytest.mark.parametrize(
    ("challenger", "baseline", "c_index", "brier", "verdict"),
    [
        # C is 1 and 0; the Brier score 0.25 less.
        ((RIGHT_ORDER, RIGHT_CURVE), (WRONG_ORDER, FLAT), 1, 0.25, "pass"),
        ((WRONG_ORDER, FLAT), (RIGHT_ORDER, RIGHT_CURVE), -1, -0.25, "reject"),
        # Better in C, worse in the probabilities, and the reverse: each is enough to reject.
        ((RIGHT_ORDER, WRONG_CURVE), (WRONG_ORDER, FLAT), 1, -0.75, "reject"),
        ((WRONG_ORDER, RIGHT_CURVE), (RIGHT_ORDER, WRONG_CURVE), -1, 1, "reject"),
        # Equal predictions have the difference 0 in every resample.
        ((RIGHT_ORDER, FLAT), (RIGHT_ORDER, FLAT), 0, 0, "pass"),
    ],
)
def test_the_primary_baseline_on_hand_worked_patients(challenger, baseline, c_index, brier, verdict):
    result = gate(challenger, baseline)
    numbers = result.numbers
    assert result.verdict == verdict
    for ends, value in ((numbers, c_index), (numbers["brier"], brier)):
        assert [ends[end] for end in ("value", "low", "high")] == pytest.approx([value] * 3, abs=1e-12)
    assert (numbers["patients"], numbers["events"]) == (12, 12)


def test_equal_predictions_lack_evidence_where_the_baseline_must_be_exceeded():
    equal = (RIGHT_ORDER, FLAT), (RIGHT_ORDER, FLAT)
    assert gate(*equal, require_baseline=True).verdict == "not-enough-evidence"
    assert gate(*equal, require_baseline=True, baseline_margin=0.01, baseline_ibs_margin=0.01).verdict == "pass"


def test_below_ten_events_no_interval_decides_against_the_primary_baseline():
    tables = [out_of_fold(*model).iloc[:9] for model in ((WRONG_ORDER, WRONG_CURVE), (RIGHT_ORDER, RIGHT_CURVE))]
    result = against_primary_baseline(GateContext(PairedComparison.from_tables(*tables), "Cox", PARAMS))
    assert result.verdict == "pass"
    assert "9 patients, 9 events" in result.reason
    assert "no interval" in result.reason


@pytest.mark.slow
def test_ten_equal_challengers_are_promoted_at_most_as_often_as_alpha_permits():
    results = np.array(list(simulation.chains(CHAINS, 100, 10, PARAMS, seed=11)))
    spent, unspent = results.sum(axis=0)
    assert spent <= stats.binom.ppf(0.99, CHAINS, PARAMS.alpha)
    assert unspent > spent


@pytest.mark.slow
def test_a_challenger_better_by_0_05_with_300_events_is_promoted():
    better, challenger, champion = simulation.noise_for(0.05, 1.0)
    assert challenger - champion == pytest.approx(0.05, abs=0.002)
    outcomes = simulation.powers(12, 1.0, better, PARAMS.looks, PARAMS, seed=12)
    # With a power of 80 %, 6 or fewer of 12 occur with probability 2 %.
    assert outcomes.count(gates.PROMOTE) >= stats.binom.ppf(0.02, 12, 0.8)


def test_models_of_two_endpoints_are_not_compared():
    with pytest.raises(DataError, match="challenger was trained for DFI, the champion for OS in m, version 2 and 1"):
        check_same_endpoint("DFI", "OS", "m, version 2 and 1")
    for challenger, champion in (("OS", "OS"), (None, "OS"), ("OS", None)):
        check_same_endpoint(challenger, champion, "m")
