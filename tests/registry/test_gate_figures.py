"""The simulated figures of the gate, small: what benchmarks/registry_gates.py measures with 1,000 repetitions.

With 60 chains a gate of 5 % lets 8 or more through once in a hundred runs (binomial); the unspent gate beside it lets
through about one chain in seven or more, so that the simulation is known to notice.
"""

import numpy as np
import pytest
from scipy import stats

from benchmarks import registry_gates as simulation
from mcti.params import PromoteParams
from mcti.registry import gates

pytestmark = pytest.mark.slow
PARAMS = PromoteParams(bootstrap=400)
CHAINS = 60


def test_ten_equal_challengers_in_a_row_are_let_through_no_more_often_than_alpha_allows():
    found = np.array(list(simulation.chains(CHAINS, 100, 10, PARAMS, seed=11)))
    spent, unspent = found.sum(axis=0)
    assert spent <= stats.binom.ppf(0.99, CHAINS, PARAMS.alpha)
    assert unspent > spent


def test_a_challenger_that_leads_by_0_05_with_300_events_is_promoted():
    better, ours, theirs = simulation.noise_for(0.05, 1.0)
    assert ours - theirs == pytest.approx(0.05, abs=0.002)
    outcomes = simulation.powers(12, 1.0, better, PARAMS.looks, PARAMS, seed=12)
    # A power of 80 % leaves 6 or fewer of 12 once in fifty runs.
    assert outcomes.count(gates.PROMOTE) >= stats.binom.ppf(0.02, 12, 0.8)
