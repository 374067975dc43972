"""Oracles: scikit-survival 0.28 (CoxPHSurvivalAnalysis, ties by Breslow) and lifelines 0.30."""

import dataclasses

import numpy as np
import pytest
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from mcti.model import cox
from tests import left_truncated as lt


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


def cohorts(seed=0, patients=(90, 70, 60)):
    """Three cohorts with one effect of the first column and baseline hazards that differ by a factor of 100."""
    generator, strata = np.random.default_rng(seed), []
    for factor, count in zip((1.0, 10.0, 100.0), patients, strict=True):
        design = generator.normal(size=(count, 4))
        time = np.round(factor * generator.exponential(np.exp(-design[:, 0])), 1 - int(np.log10(factor)))
        strata.append(cox.Stratum(design, generator.random(count) < 0.7, time, weight=1 / np.sqrt(factor)))
    return strata


def negative_log_likelihood(beta, strata, penalty):
    """The definition, patient by patient (Breslow)."""
    total = penalty / 2 * beta @ beta
    for stratum in strata:
        score = stratum.design @ beta + (0 if stratum.offset is None else stratum.offset)
        for i in np.flatnonzero(stratum.event):
            at_risk = stratum.time_months >= stratum.time_months[i]
            total -= stratum.weight * (score[i] - np.log(np.exp(score[at_risk]).sum()))
    return total


@pytest.mark.parametrize("penalty", [0.5, 30.0])
@pytest.mark.parametrize("with_offset", [False, True])
def test_stratified_fit_agrees_with_a_direct_maximisation(penalty, with_offset):
    from scipy.optimize import minimize

    strata = cohorts()
    if with_offset:
        strata[0] = dataclasses.replace(strata[0], offset=np.random.default_rng(3).normal(size=90))
    direct = minimize(negative_log_likelihood, np.zeros(4), (strata, penalty), method="BFGS", options={"gtol": 1e-8})
    np.testing.assert_allclose(cox.stratified_coefficients(strata, penalty), direct.x, atol=1e-5)


def test_stratified_fit_agrees_with_lifelines():
    """Efron's handling of ties there: so without ties here."""
    import pandas as pd
    from lifelines import CoxPHFitter

    generator, frames, strata = np.random.default_rng(1), [], []
    for number, stratum in enumerate(cohorts()):
        time = (10.0**number) * generator.exponential(np.exp(-stratum.design[:, 0]))
        strata.append(dataclasses.replace(stratum, time_months=time, weight=1 / 2**number))
        columns = {"time": time, "event": stratum.event, "cohort": number, "weight": 1 / 2**number}
        frames.append(pd.DataFrame(stratum.design).assign(**columns))
    fitted = CoxPHFitter().fit(pd.concat(frames), "time", "event", strata="cohort", weights_col="weight", robust=True)
    np.testing.assert_allclose(cox.stratified_coefficients(strata, 0.0), fitted.params_.to_numpy(), atol=1e-5)


def test_a_stratum_with_late_entry_next_to_one_without_agrees_with_lifelines():
    """Each stratum has its own risk sets. lifelines: entry 0 where there is none, and it stops 1e-5 early."""
    import pandas as pd
    from lifelines import CoxPHFitter

    generator, frames, strata = np.random.default_rng(2), [], []
    for number, stratum in enumerate(cohorts()):
        time = generator.exponential(np.exp(-stratum.design[:, 0]))
        entry = np.zeros(len(time)) if number else time * generator.uniform(0, 0.9, len(time))
        optional = None if number else entry
        strata.append(dataclasses.replace(stratum, time_months=time, entry_months=optional, weight=1.0))
        columns = {"time": time, "entry": entry, "event": stratum.event, "cohort": number}
        frames.append(pd.DataFrame(stratum.design).assign(**columns))
    fitted = CoxPHFitter().fit(pd.concat(frames), "time", "event", strata="cohort", entry_col="entry")
    ours = cox.stratified_coefficients(strata, 0.0)
    np.testing.assert_allclose(ours, fitted.params_.to_numpy(), atol=1e-4)
    ignored = [dataclasses.replace(stratum, entry_months=None) for stratum in strata]
    assert np.abs(cox.stratified_coefficients(ignored, 0.0) - ours).max() > 0.01


def test_the_baseline_hazard_of_a_stratum_changes_nothing():
    strata = cohorts()
    changed = [strata[0], *(dataclasses.replace(s, time_months=s.time_months**3 * 7) for s in strata[1:])]
    ours, other = (cox.stratified_coefficients(many, 1.0) for many in (strata, changed))
    np.testing.assert_allclose(ours, other, atol=1e-9)


def test_a_stratum_of_weight_0_changes_nothing():
    target, *others = cohorts()
    alone = cox.stratified_coefficients([target], 1.0)
    ignored = [dataclasses.replace(stratum, weight=0.0) for stratum in others]
    np.testing.assert_allclose(cox.stratified_coefficients([target, *ignored], 1.0), alone, atol=1e-9)


def test_an_offset_is_a_part_of_the_score_with_coefficient_1():
    target, *_ = cohorts()
    beta = np.array([0.3, -0.2, 0.0, 0.1])
    moved = dataclasses.replace(target, offset=target.design @ beta)
    np.testing.assert_allclose(
        cox.stratified_coefficients([moved], 0.0) + beta, cox.stratified_coefficients([target], 0.0), atol=1e-6
    )


def test_late_entry_agrees_with_coxph_of_r():
    """R survival 3.5-3 (tests/left_truncated.py): coefficient, ridge, log likelihood and baseline hazard, with ties."""
    design = lt.X[:, None]
    beta = cox.coefficients(design, lt.EVENT, lt.TIME, 0.0, lt.ENTRY)
    assert beta[0] == pytest.approx(lt.COEFFICIENT, abs=1e-7)
    assert cox.coefficients(design, lt.EVENT, lt.TIME, 2.0, lt.ENTRY)[0] == pytest.approx(lt.RIDGE, abs=1e-7)
    for value, expected in zip((np.zeros(1), np.array([lt.COEFFICIENT])), lt.LOG_LIKELIHOODS, strict=True):
        likelihood = cox.log_partial_likelihood(design, lt.EVENT, lt.TIME, value, lt.ENTRY)
        assert likelihood == pytest.approx(expected, abs=1e-8)
    times, hazard = cox.breslow_hazard(lt.X * lt.COEFFICIENT, lt.EVENT, lt.TIME, lt.ENTRY)
    np.testing.assert_array_equal(times, lt.TIMES)
    np.testing.assert_allclose(hazard, lt.HAZARD, atol=1e-9)


def test_the_curvature_with_late_entry_is_that_of_r():
    """The inverse of R's variance of the coefficient, as the change of the gradient that Newton's method uses."""
    stratum = cox.Stratum(lt.X[:, None], lt.EVENT, lt.TIME, entry_months=lt.ENTRY).by_time()
    _, gradient, curvature = cox._likelihood(stratum, np.array([lt.COEFFICIENT]))
    assert gradient[0] == pytest.approx(0, abs=1e-8)
    assert 1 / curvature[0, 0] == pytest.approx(lt.VARIANCE, abs=1e-8)


def test_entries_at_the_origin_change_nothing(tied_times):
    design, event, time = tied_times
    plain, entered = (cox.fit_ridge(design, event, time, 5.0, entry) for entry in (None, np.zeros(len(time))))
    np.testing.assert_allclose(entered.coefficients, plain.coefficients, atol=1e-9)
    np.testing.assert_allclose(entered.hazard, plain.hazard, atol=1e-9)


def test_the_hazard_is_right_with_entries_and_too_low_without():
    """Known truth: cumulative hazard 0.03 t and log hazard ratio 1; 4,000 simulated patients, half with late entry."""
    x, entry, time, event = lt.simulated(4000, seed=1)
    right, naive = (cox.fit_ridge(x[:, None], event, time, 0.0, one) for one in (entry, None))
    assert right.coefficients[0] == pytest.approx(1.0, abs=0.05)
    at = [float(-np.log(model.survival(np.zeros((1, 1)), np.array([30.0]))[0, 0])) for model in (right, naive)]
    assert at[0] == pytest.approx(0.9, rel=0.08)
    assert at[1] < 0.75


def test_the_penalty_is_chosen_within_risk_sets():
    x, entry, time, event = lt.simulated(150, seed=2)
    design = np.column_stack([x, np.random.default_rng(0).normal(size=(150, 3))])
    assert cox.choose_penalty(design, event, time, cox.PENALTIES, 5, 0, entry) in cox.PENALTIES
    assert cox.choose_penalty(design, event, time, cox.PENALTIES, 5, 0, np.zeros(150)) == cox.choose_penalty(
        design, event, time, cox.PENALTIES, 5, 0
    )


def test_the_penalty_has_the_best_held_out_likelihood_within_risk_sets():
    """By the definition, on a grid so fine that fits or likelihoods from the origin choose another penalty."""
    x, entry, time, event = lt.simulated(120, seed=3, effect=0.6)
    design = np.column_stack([x, np.random.default_rng(0).normal(size=(120, 8)), entry / 10])
    grid, inner = np.geomspace(0.1, 400, 40), cox.inner_folds(event, 3, 0)
    gains = np.zeros(40)
    for kept in (inner != fold for fold in range(3)):
        part = (design[kept], event[kept], time[kept])
        for at, penalty in enumerate(grid):
            beta = cox.coefficients(*part, float(penalty), entry[kept])
            whole = cox.log_partial_likelihood(design, event, time, beta, entry)
            gains[at] += whole - cox.log_partial_likelihood(*part, beta, entry[kept])
    assert cox.choose_penalty(design, event, time, grid, 3, 0, entry) == grid[gains.argmax()]
    assert cox.choose_penalty(design, event, time, grid, 3, 0) != grid[gains.argmax()]
