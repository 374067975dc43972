"""A small version of the simulation in benchmarks/registry_gates.py, which has 1,000 repetitions.

Of 60 chains, a gate of 5 % promotes a challenger in 8 or more with probability 1 % (binomial). Without alpha spending
it does so in about one chain of seven or more, so that the simulation detects a gate without spending.
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


def test_ten_equal_challengers_are_promoted_at_most_as_often_as_alpha_permits():
    results = np.array(list(simulation.chains(CHAINS, 100, 10, PARAMS, seed=11)))
    spent, unspent = results.sum(axis=0)
    assert spent <= stats.binom.ppf(0.99, CHAINS, PARAMS.alpha)
    assert unspent > spent


def test_a_challenger_better_by_0_05_with_300_events_is_promoted():
    better, challenger, champion = simulation.noise_for(0.05, 1.0)
    assert challenger - champion == pytest.approx(0.05, abs=0.002)
    outcomes = simulation.powers(12, 1.0, better, PARAMS.looks, PARAMS, seed=12)
    # With a power of 80 %, 6 or fewer of 12 occur with probability 2 %.
    assert outcomes.count(gates.PROMOTE) >= stats.binom.ppf(0.02, 12, 0.8)
