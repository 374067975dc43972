"""The Cox model that `train` fits in an ensemble with a network, against scikit-learn and scikit-survival."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.metrics import concordance_index_censored
from sksurv.util import Surv

from mcti.concordance import harrell_c
from mcti.dataset.sources import Transfer
from mcti.dataset.splits import FoldSplit
from mcti.model import cox
from mcti.model.prior import Prior
from mcti.training import fit_cox_branch, folds, loop
from mcti.training.cox_inputs import cox_inputs
from mcti.training.cox_transfer import fit_score
from tests import left_truncated as lt
from tests.training import factories, transfer_cohorts


def train(bags, **changes):
    data = factories.dataset(len(bags))
    settings = factories.settings(**{"epochs": 1, **changes})
    return loop.train(folds.prepare(data, bags, settings, ("fold", 0), "fold 0")).model


def people(count=60, **changes):
    ages = np.random.default_rng(5).normal(60, 9, count)
    return [
        dataclasses.replace(bag, covariates={"age": None if number == 3 else ages[number]}, **changes)
        for number, bag in enumerate(factories.bags(count))
    ]


def scores(model, bags):
    rows = [model.inputs(bag.patches, bag.genes, bag.covariates) for bag in bags]
    columns = [
        model.net.cox_branch.scores(r["patches"], r["mask"], r["genes"], r.get("covariates"), None, None) for r in rows
    ]
    return torch.cat(columns).double().numpy()


def test_scores_are_the_sum_of_two_ridge_cox_models_times_one_slope():
    """scikit-learn's components of means and genes, scaled covariates, and scikit-survival's ridge on them."""
    bags = people()
    model = train(bags, architecture={"covariates": ["age"]})
    ages = np.array([[np.nan if bag.covariates["age"] is None else bag.covariates["age"]] for bag in bags])
    known = np.nan_to_num((ages - np.nanmean(ages)) / np.nanstd(ages))
    clinical = StandardScaler().fit_transform(np.concatenate([known, np.isnan(ages)], axis=1))
    genes = np.stack([bag.genes.numpy() for bag in bags])
    slides = np.stack([moments(bag.patches.double().numpy()) for bag in bags])
    outcome = Surv.from_arrays([bag.event for bag in bags], [bag.time_months for bag in bags])
    total = 0.0
    for power, factor, penalty in ((0.0, 1.0, 300.0), (0.5, 3.0, 100.0)):
        design = np.concatenate([axes(genes, power), axes(slides, power), factor**0.5 * clinical], axis=1)
        fitted = CoxPHSurvivalAnalysis(alpha=penalty, ties="breslow", tol=1e-12).fit(design, outcome)
        total = total + design @ fitted.coef_
    ours = scores(model, bags)
    slope = np.polyfit(total, ours, 1)[0]
    assert slope > 0
    np.testing.assert_allclose(ours - ours.mean(), slope * (total - total.mean()), atol=2e-4)


def axes(table, power):
    """Principal components; their variance is the original one, relative to the first, to this power."""
    pca = PCA(whiten=True, svd_solver="full")
    columns = pca.fit_transform(StandardScaler().fit_transform(table)) * np.sqrt(len(table) / (len(table) - 1))
    return columns * (pca.explained_variance_ / pca.explained_variance_[0]) ** (power / 2)


def moments(bag):
    return np.concatenate([bag.mean(0), bag.std(0)])


@pytest.mark.parametrize("head", ["discrete", "continuous"])
def test_in_each_bin_as_many_events_are_expected_as_there_were(head):
    bags, edges = factories.bags(50), (0.0, 10.0, 25.0, 60.0, 400.0)
    scores = torch.from_numpy(np.random.default_rng(0).normal(0, 1.5, 50))
    base = fit_cox_branch.base_logits(scores, bags, edges, head).numpy()
    for j, logit in enumerate(base):
        reached = [k for k, bag in enumerate(bags) if bag.time_months >= edges[j]]
        died = sum(bags[k].event and (j == 3 or bags[k].time_months < edges[j + 1]) for k in reached)
        odds = np.exp(logit + scores.numpy()[reached])
        chance = odds / (1 + odds)  # 1 - exp(-log(1 + odds)), too
        wanted = (died + 0.5) / (len(reached) + 1) * len(reached)
        assert chance.sum() == pytest.approx(wanted, rel=1e-6)


def test_after_one_epoch_the_network_is_near_chance_and_the_ensemble_near_the_cox_model():
    bags = people(200)
    bags, unseen = bags[:120], bags[120:]
    months, event = [bag.time_months for bag in unseen], [bag.event for bag in unseen]
    c_index = {}
    for share in (0.0, 0.5):
        model = train(bags, cox_weight=share)
        risks = [model.predict(bag.patches, bag.genes, (12.0,))["risk"] for bag in unseen]
        c_index[share] = concordance_index_censored(event, months, risks)[0]
    cox_alone = concordance_index_censored(event, months, scores(model, unseen))[0]
    assert c_index[0.0] < 0.7 < cox_alone
    assert c_index[0.5] > cox_alone - 0.03


def test_the_network_itself_stays_as_it_was():
    alone, both = (train(people(), cox_weight=share) for share in (0.0, 0.5))
    weights = both.net.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in alone.net.state_dict().items())


def test_noise_is_shrunk_to_nearly_nothing():
    """The slope is fitted on inner folds: uninformative inputs have no influence, the network ranks alone."""
    bags = [dataclasses.replace(bag, genes=torch.randn(len(factories.GENES))) for bag in people(200)]
    order = np.random.default_rng(0).permutation(200)
    bags = [
        dataclasses.replace(bag, time_months=bags[k].time_months, event=bags[k].event)
        for bag, k in zip(bags, order, strict=True)
    ]
    assert scores(train(bags), bags).std() < 0.15


@pytest.mark.parametrize("without", [{"patches": None}, {"genes": None}])
def test_a_modality_that_no_patient_has_has_no_influence(without):
    bags = people(**without)
    model = train(bags)
    assert float(model.net.cox_branch.features.abs().max()) == 0 or "patches" not in without
    assert float(model.net.cox_branch.genes.abs().max()) == 0 or "genes" not in without
    with_genes = model.predict(bags[0].patches, bags[0].genes, (12.0,))
    assert np.isfinite(list(with_genes.values())).all()


def test_two_events_are_enough_to_fit():
    design = np.random.default_rng(0).normal(size=(20, 3))
    event, months = np.arange(20) < 2, np.arange(1.0, 21.0)
    chosen = cox.choose_penalty(design, event, months, cox.PENALTIES, cox.INNER_FOLDS, 0)
    assert np.isfinite(cox.coefficients(design, event, months, chosen)).all()


def test_the_inner_folds_depend_on_the_seed_only():
    one, two = (train(people()).net.cox_branch.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def prepared(data, count, **transfer):
    """The task of the first `count` patients of a simulated cohort."""
    bags = list(data.bags.values())[:count]
    settings = transfer_cohorts.settings(epochs=1, cox_weight=0.5)
    return folds.prepare(data, bags, settings, ("fold", 0), "fold 0", Transfer(**transfer))


def ranked(model, data, count):
    """C of the Cox branch in the patients after the first `count`."""
    new = list(data.bags.values())[count:]
    event, months = np.array([bag.event for bag in new]), np.array([bag.time_months for bag in new])
    return harrell_c(event, months, scores(model, new))


def test_training_with_a_source_stores_the_joint_fit_for_the_inputs_of_the_cohort():
    """The source has another level of its genes and other times: only what is standardised within it counts."""
    data = transfer_cohorts.cohort("T", 400, 1)
    source = transfer_cohorts.cohort("S", 500, 2, shift=7.0, months=300.0)
    task = prepared(data, 40, sources=(source,))
    model, alone = loop.train(task).model, loop.train(prepared(data, 40)).model
    tables = cox_inputs(task.fitted, task.config, task.bags)
    ours = fit_cox_branch.part(tables, task.bags)
    joint = fit_score(ours, [fit_cox_branch.source_part(task.config, source, "none")], None, task.params.seed)
    torch.testing.assert_close(model.net.cox_branch.genes.double(), joint.ratios["genes"], atol=1e-6, rtol=1e-5)
    assert ranked(model, data, 40) > ranked(alone, data, 40) + 0.02


@pytest.mark.slow
@pytest.mark.parametrize("fine_tuning", ["none", "auto"])
def test_the_patients_of_the_test_part_do_not_change_the_weights(tmp_path, fine_tuning):
    """Another outcome, other genes and other patches of each test patient: the files have the same bytes.

    With those of one training patient, too, the bytes are others.
    """
    data, source = transfer_cohorts.cohort("T", 60, 1), transfer_cohorts.cohort("S", 80, 2)
    ids, others = list(data.bags), list(transfer_cohorts.cohort("O", 60, 3).bags.values())

    def changed_from(first):
        new = {name: dataclasses.replace(others[k], patient_id=name) for k, name in enumerate(ids) if k >= first}
        return dataclasses.replace(data, bags=data.bags | new)

    split = FoldSplit(0, tuple(ids[:40]), tuple(ids[40:]))
    settings = transfer_cohorts.settings(epochs=1, cox_weight=0.5, fine_tuning=fine_tuning)
    weights = []
    for number, one in enumerate((data, changed_from(40), changed_from(39))):
        folds.train_fold(one, split, settings, tmp_path / str(number), transfer=Transfer((source,)))
        weights.append((tmp_path / str(number) / "fold_0" / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize("same_encoder", [True, False])
def test_a_prior_of_another_encoder_of_equal_width_gives_its_genes_alone(same_encoder):
    member = loop.train(prepared(transfer_cohorts.cohort("P", 300, 4), 300)).model
    prior = Prior("pan", "1", "0" * 64, {"fold_0": member}, {}, slides=same_encoder)
    task = prepared(transfer_cohorts.cohort("T", 60, 1), 60, prior=prior)
    ratios = fit_cox_branch.prior_ratios(prior, task.config)
    assert torch.equal(ratios["genes"], member.net.cox_branch.genes.double())
    assert bool(ratios["slides"].any()) is same_encoder


def test_the_outcomes_of_a_part_have_the_entry():
    bags = [dataclasses.replace(bag, entry_months=bag.time_months / 2) for bag in factories.bags(8)]
    outcomes = fit_cox_branch.part({}, bags)
    np.testing.assert_array_equal(outcomes.entry_months, outcomes.time_months / 2)
    assert fit_cox_branch.part({}, factories.bags(8)).entry_months is None


def test_the_base_hazard_of_late_entries_is_events_per_time_at_risk():
    """Continuous head, scores of 0: the rate r of a bin of equal shares s at risk has sum(1 - exp(-r s)) = events."""
    times = [2.0, 4.0, 12.0, 14.0, 16.0, 18.0]
    entry = [0.0, 0.0, 5.0, 5.0, 15.0, 15.0]
    bags = [dataclasses.replace(bag, time_months=time, entry_months=start, event=True)
            for bag, time, start in zip(factories.bags(6), times, entry, strict=True)]  # fmt: skip
    logits = fit_cox_branch.base_logits(torch.zeros(6, dtype=torch.float64), bags, [0.0, 10.0, 20.0], "continuous")
    shares = [[1, 1, 0.5, 0.5, 0, 0], [0, 0, 1, 1, 0.5, 0.5]]
    for rate, at_risk, events in zip(torch.nn.functional.softplus(logits).tolist(), shares, (2, 4), strict=True):
        expected = (events + 0.5) / (sum(at_risk) + 1) * sum(at_risk)
        assert sum(1 - np.exp(-rate * share) for share in at_risk) == pytest.approx(expected, abs=1e-9)


def test_the_stratum_of_a_part_has_the_entry():
    """The coefficient of R with entries (tests/left_truncated.py)."""
    outcomes = fit_cox_branch.Part({}, lt.EVENT, lt.TIME, lt.ENTRY)
    fitted = cox.stratified_coefficients([outcomes.stratum(lt.X[:, None])], 0.0)
    assert fitted[0] == pytest.approx(lt.COEFFICIENT, abs=1e-6)
