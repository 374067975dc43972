"""Oracles: scikit-survival 0.28 (CoxPHSurvivalAnalysis, ties by Breslow) and lifelines 0.30."""

import numpy as np
import pytest
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from mcti.model import cox


@pytest.fixture
def made():
    """200 patients, 8 columns, times in whole months: most are tied."""
    generator = np.random.default_rng(0)
    design = generator.normal(size=(200, 8))
    time = np.ceil(generator.exponential(10 * np.exp(-design[:, 0])))
    return design, generator.random(200) < 0.6, time


@pytest.mark.parametrize("penalty", [0.5, 20.0, 1000.0])
def test_ridge_cox_agrees_with_scikit_survival(made, penalty):
    design, event, time = made
    ours = cox.coefficients(design, event, time, penalty)
    oracle = CoxPHSurvivalAnalysis(alpha=penalty, ties="breslow", tol=1e-12).fit(design, Surv.from_arrays(event, time))
    np.testing.assert_allclose(ours, oracle.coef_, atol=1e-8)  # both iterate to 1e-7 of quadratic steps


def test_the_likelihood_is_lifelines_own(made):
    """lifelines reports the log partial likelihood at its maximum (Efron: so without ties here)."""
    import pandas as pd
    from lifelines import CoxPHFitter

    design, event, _ = made
    time = np.random.default_rng(1).exponential(10 * np.exp(-design[:, 0]))
    frame = pd.DataFrame(design).assign(time=time, event=event)
    fitted = CoxPHFitter().fit(frame, "time", "event")
    ours = cox.log_partial_likelihood(design, event, time, fitted.params_.to_numpy())
    assert ours == pytest.approx(fitted.log_likelihood_, abs=1e-6)


def test_more_columns_than_patients_and_huge_effects_converge():
    generator = np.random.default_rng(0)
    design = 30 * generator.normal(size=(60, 90))
    time = np.exp(-design[:, 0] / 10)
    found = cox.coefficients(design, np.ones(60, dtype=bool), time, 1.0)
    assert np.isfinite(found).all()
    assert found[0] > 0


def test_noise_gets_the_largest_penalty_and_signal_a_smaller_one():
    generator = np.random.default_rng(0)
    design, event = generator.normal(size=(300, 10)), generator.random(300) < 0.7
    grid = np.array([1.0, 30.0, 3000.0])
    noise = generator.exponential(10, size=300)
    assert cox.choose_penalty(design, event, noise, grid, 5, seed=0) == 3000
    signal = generator.exponential(np.exp(-design[:, :5].sum(axis=1)))
    assert cox.choose_penalty(design, event, signal, grid, 5, seed=0) < 3000


def test_inner_folds_share_the_events_evenly():
    event = np.arange(103) < 23
    place = cox.inner_folds(event, 5, seed=0)
    assert max(np.bincount(place[event])) - min(np.bincount(place[event])) <= 1
    assert max(np.bincount(place)) - min(np.bincount(place)) <= 2
