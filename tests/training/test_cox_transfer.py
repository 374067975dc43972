"""The linear score with sources and a prior, on simulated cohorts; oracle of the fits: scikit-survival."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from scipy import optimize
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv

from mcti.concordance import harrell_c
from mcti.training import cox_transfer
from mcti.training.cox_design import HALF_WHITENED, WHITENED, Design, Scaled
from mcti.training.cox_transfer import Part, favoured_or_better

GENES, FEATURES = 40, 4
EFFECT = np.random.default_rng(99).normal(0, 0.25, GENES)


def cohort(seed, patients, effect=EFFECT, months=20.0, slides=True):
    """Patients whose hazard depends on the genes; the baseline hazard has the mean `months`."""
    generator = np.random.default_rng(seed)
    genes = generator.normal(size=(patients, GENES))
    features = generator.normal(size=(patients, 2 * FEATURES)) * slides
    time = months * generator.exponential(np.exp(-genes @ effect)) + 1e-3
    limit = np.quantile(time, 0.8)
    tables = {"genes": torch.from_numpy(genes), "slides": torch.from_numpy(features)}
    return Part(tables, time <= limit, np.minimum(time, limit))


def permuted(part, seed=5):
    order = np.random.default_rng(seed).permutation(len(part.event))
    return dataclasses.replace(part, event=part.event[order], time_months=part.time_months[order])


def risk(part, ratios):
    return sum(part.tables[name] @ values for name, values in ratios.items()).numpy()


def c_index(part, ratios):
    return harrell_c(part.event, part.time_months, risk(part, ratios))


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def fit_score(*arguments):
    return cox_transfer.fit_score(*arguments).ratios


def logged(caplog):
    """{"source weight": …, "prior weight": …, "slope": …} of the last fit, as the log states them."""
    _, _, numbers = caplog.messages[-1].partition("Cox model with ")
    return {name: float(value) for name, value in (part.rsplit(" ", 1) for part in numbers.split(", "))}


@pytest.fixture(autouse=True)
def _logs(caplog):
    caplog.set_level("INFO")


def test_the_own_score_is_the_sum_of_two_ridge_fits():
    """scikit-survival on the same columns; the slope is one factor of both."""
    target = cohort(0, 120)
    scaled, total = Scaled.fit(target.tables), 0.0
    for axes, penalty in {WHITENED: 300.0, HALF_WHITENED: 100.0}.items():
        columns = Design.fit([scaled], axes).columns(scaled)
        model = CoxPHSurvivalAnalysis(alpha=penalty, ties="breslow", tol=1e-12)
        model.fit(columns, Surv.from_arrays(target.event, target.time_months))
        total = total + columns @ model.coef_
    ours = risk(target, fit_score(target, [], None, 0))
    slope = np.polyfit(total, ours, 1)[0]
    np.testing.assert_allclose(ours - ours.mean(), slope * (total - total.mean()), atol=1e-6)
    assert 0 < slope <= cox_transfer.LARGEST_SLOPE


def test_a_related_source_is_used_and_new_patients_are_ranked_better(caplog):
    target, source, new = cohort(0, 60), cohort(1, 800, months=300.0), cohort(2, 2000)
    alone, joint = fit_score(target, [], None, 0), fit_score(target, [source], None, 0)
    assert logged(caplog)["source weight"] > 0
    assert c_index(new, joint) > c_index(new, alone) + 0.05


@pytest.mark.parametrize("seed", [0, 10, 20])
def test_unrelated_sources_cost_little(caplog, seed):
    target, new = cohort(seed, 300), cohort(2, 2000)
    unrelated = [permuted(cohort(1, 800)), permuted(cohort(3, 800))]
    ratios = fit_score(target, unrelated, None, 0)
    assert logged(caplog)["source weight"] < 1
    assert c_index(new, ratios) > c_index(new, fit_score(target, [], None, 0)) - 0.01


def test_a_source_of_opposite_effects_is_not_used(caplog):
    target = cohort(0, 300)
    assert equal(fit_score(target, [cohort(1, 800, -EFFECT)], None, 0), fit_score(target, [], None, 0))


def test_a_planted_shared_gene_gets_weight_from_the_source_although_the_own_cohort_is_small():
    effect = np.zeros(GENES)
    effect[7] = 0.8
    target, source = cohort(0, 40, effect), cohort(1, 800, effect)
    ratios = fit_score(target, [source], None, 0)["genes"]
    assert int(ratios.abs().argmax()) == 7
    assert float(ratios[7]) > 0


def test_the_baseline_hazard_of_a_source_changes_nothing():
    target, source = cohort(0, 60), cohort(1, 400)
    slower = dataclasses.replace(source, time_months=source.time_months**2 * 50)
    for one, other in zip(
        fit_score(target, [source], None, 0).values(), fit_score(target, [slower], None, 0).values(), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=0)


def test_genes_that_a_source_lacks_and_a_source_without_slides_are_no_obstacle(caplog):
    target, source = cohort(0, 60), cohort(1, 800, slides=False)
    source.tables["genes"][:, 20:] = 0.0  # as `source_inputs` gives absent genes
    ratios = fit_score(target, [source], None, 0)
    assert logged(caplog)["source weight"] > 0
    assert all(bool(values.isfinite().all()) for values in ratios.values())
    assert c_index(cohort(2, 2000), ratios) > c_index(cohort(2, 2000), fit_score(target, [], None, 0))


def test_without_weight_of_the_sources_the_fit_is_that_of_the_own_cohort(monkeypatch):
    monkeypatch.setattr(cox_transfer, "SOURCE_WEIGHTS", {0.0: 0.0})
    target = cohort(0, 60)
    assert equal(fit_score(target, [cohort(1, 800)], None, 0), fit_score(target, [], None, 0))


def test_a_prior_with_the_effects_of_the_cohort_is_used(caplog):
    target, new = cohort(0, 60), cohort(2, 2000)
    prior = {"genes": torch.from_numpy(EFFECT), "slides": torch.zeros(2 * FEATURES, dtype=torch.float64)}
    ratios = fit_score(target, [], prior, 0)
    assert logged(caplog)["prior weight"] > 0
    assert c_index(new, ratios) > c_index(new, fit_score(target, [], None, 0)) + 0.05


def test_a_prior_of_opposite_effects_is_not_used(caplog):
    target = cohort(0, 300)
    prior = {"genes": torch.from_numpy(-EFFECT), "slides": torch.zeros(2 * FEATURES, dtype=torch.float64)}
    assert equal(fit_score(target, [], None, 0), fit_score(target, [], prior, 0))
    assert logged(caplog)["prior weight"] == 0


def test_prior_and_sources_together_rank_as_well_as_the_better_of_the_two():
    target, new, source = cohort(0, 60), cohort(2, 2000), cohort(1, 400)
    prior = {"genes": torch.from_numpy(EFFECT), "slides": torch.zeros(2 * FEATURES, dtype=torch.float64)}
    both = c_index(new, fit_score(target, [source], prior, 0))
    single = [c_index(new, fit_score(target, [source], None, 0)), c_index(new, fit_score(target, [], prior, 0))]
    assert both > max(single) - 0.02


def test_the_log_names_the_weights_that_there_were_to_choose(caplog):
    target, prior = cohort(0, 60), {"genes": torch.from_numpy(EFFECT), "slides": torch.zeros(2 * FEATURES).double()}
    for sources, known in ([], None), ([cohort(1, 100)], None), ([], prior):
        fit_score(target, sources, known, 0)
    names = [re.sub(r" [0-9.]+", "", line.partition(" with ")[2]) for line in caplog.messages]
    assert names == ["slope", "source weight, slope", "prior weight, slope"]


def test_inputs_without_information_have_no_influence():
    ratios = fit_score(permuted(cohort(0, 400)), [], None, 0)
    assert float(risk(cohort(2, 500), ratios).std()) < 0.1


def test_two_events_are_enough():
    target = cohort(0, 20)
    few = dataclasses.replace(target, event=np.arange(20) < 2)
    ratios = fit_score(few, [cohort(1, 100)], None, 0)
    assert all(bool(values.isfinite().all()) for values in ratios.values())


def test_two_runs_give_the_same_bits():
    target, source = cohort(0, 60), cohort(1, 300)
    assert equal(fit_score(target, [source], None, 3), fit_score(target, [source], None, 3))


@pytest.mark.parametrize(
    ("gains", "position"),
    [([-5.0, -2.5, -9.0], 0), ([-5.0, -1.5, -9.0], 1), ([-5.0, -9.0, -3.5], 2), ([-5.0, -1.5, -3.9], 1), ([-5.0], 0)],
)
def test_the_first_choice_is_favoured_by_the_margin_of_the_other(gains, position):
    assert favoured_or_better(gains, [0.0, 3.0, 1.0][: len(gains)]) == position


def test_no_transfer_needs_the_largest_margin():
    margins = cox_transfer.margins_of(cox_transfer.SOURCE_WEIGHTS, cox_transfer.PRIOR_WEIGHTS)
    assert next(iter(margins.items())) == ((0.25, 0.5), 0.0)
    assert max(margins, key=lambda pair: margins[pair]) == (0.0, 0.0)


def test_the_slope_is_shrunk_to_1_as_if_fifty_further_events_had_it():
    """Oracle: scipy's maximum of the likelihood of Efron's form without ties, less the penalty."""
    few, many = cohort(0, 40), cohort(0, 4000)
    true = {"genes": torch.from_numpy(EFFECT), "slides": torch.zeros(2 * FEATURES).double()}
    for part in (few, many):
        scores = 2 * risk(part, true)  # the slope of these is 0.5

        def loss(slope, part=part, scores=scores):
            order = np.argsort(-part.time_months, kind="stable")
            scaled, event = slope * scores[order], part.event[order]
            likelihood = (scaled - np.logaddexp.accumulate(scaled))[event].sum()
            return 25 * scores.var() * (slope - 1) ** 2 - likelihood

        expected = optimize.minimize_scalar(loss, bounds=(0, 3), method="bounded", options={"xatol": 1e-9}).x
        assert cox_transfer.slope_of([scores], [part]) == pytest.approx(expected, abs=1e-5)
    assert cox_transfer.slope_of([2 * risk(few, true)], [few]) > 0.7
    assert cox_transfer.slope_of([2 * risk(many, true)], [many]) < 0.55
