"""Oracles: scikit-survival 0.28 (CoxPHSurvivalAnalysis, ties by Breslow) and lifelines 0.30."""

import numpy as np
import pytest
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from mcti.model import cox


@pytest.fixture
def tied_times():
    """200 patients, 8 columns, times in whole months: most are tied."""
    generator = np.random.default_rng(0)
    design = generator.normal(size=(200, 8))
    time = np.ceil(generator.exponential(10 * np.exp(-design[:, 0])))
    return design, generator.random(200) < 0.6, time


@pytest.mark.parametrize("penalty", [0.5, 20.0, 1000.0])
def test_ridge_cox_agrees_with_scikit_survival(tied_times, penalty):
    design, event, time = tied_times
    ours = cox.coefficients(design, event, time, penalty)
    oracle = CoxPHSurvivalAnalysis(alpha=penalty, ties="breslow", tol=1e-12).fit(design, Surv.from_arrays(event, time))
    np.testing.assert_allclose(ours, oracle.coef_, atol=1e-8)  # both iterate to 1e-7 of quadratic steps


@pytest.mark.parametrize("penalty", [0.5, 20.0, 1000.0])
def test_survival_curves_agree_with_scikit_survival(tied_times, penalty):
    design, event, time = tied_times
    oracle = CoxPHSurvivalAnalysis(alpha=penalty, ties="breslow", tol=1e-12).fit(design, Surv.from_arrays(event, time))
    months = np.array([3.0, 9.0])
    curves = np.stack([curve(months) for curve in oracle.predict_survival_function(design)])
    np.testing.assert_allclose(cox.fit_ridge(design, event, time, penalty).survival(design, months), curves, atol=1e-8)


def test_log_partial_likelihood_agrees_with_lifelines(tied_times):
    """lifelines reports the log partial likelihood at its maximum (Efron: so without ties here)."""
    import pandas as pd
    from lifelines import CoxPHFitter

    design, event, _ = tied_times
    time = np.random.default_rng(1).exponential(10 * np.exp(-design[:, 0]))
    frame = pd.DataFrame(design).assign(time=time, event=event)
    fitted = CoxPHFitter().fit(frame, "time", "event")
    ours = cox.log_partial_likelihood(design, event, time, fitted.params_.to_numpy())
    assert ours == pytest.approx(fitted.log_likelihood_, abs=1e-6)


def test_more_columns_than_patients_and_huge_effects_converge():
    generator = np.random.default_rng(0)
    design = 30 * generator.normal(size=(60, 90))
    time = np.exp(-design[:, 0] / 10)
    beta = cox.coefficients(design, np.ones(60, dtype=bool), time, 1.0)
    assert np.isfinite(beta).all()
    assert beta[0] > 0


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
    fold = cox.inner_folds(event, 5, seed=0)
    assert max(np.bincount(fold[event])) - min(np.bincount(fold[event])) <= 1
    assert max(np.bincount(fold)) - min(np.bincount(fold)) <= 2
