"""Pretraining on several cohorts: balanced steps, own bins and subtypes, absent genes, resumed runs, refused input."""

import dataclasses

import numpy as np
import pytest
import torch

from mcti.dataset import time_bins
from mcti.errors import DataError
from mcti.model.cohort_networks import CohortNetworks
from mcti.training import folds, loop, losses, pretraining
from mcti.training.loop import CheckpointConfig, Paused
from tests.training.transfer_cohorts import GENES, cohort, settings

CPU = torch.device("cpu")


def sources():
    return [
        cohort("large", 60, 1),
        cohort("small", 12, 2, shift=5.0, months=90.0),
        cohort("one_class", 30, 3, classes=("A",)),
    ]


def config_of(data, params):
    return folds.prepare(data, list(data.bags.values()), params, ("fold", 0), "fold 0").config


def prepared(cohorts, **changes):
    params = settings(**changes)
    return pretraining.prepare(cohorts, config_of(cohorts[0], params), params)


def equal(one, other):
    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(value, other.tensors[name]) for name, value in one.tensors.items()
    )


def test_every_step_has_the_same_number_of_patients_of_each_cohort():
    run = pretraining.PretrainingRun(prepared(sources(), batch_patients=12), CPU)
    drawn = []
    for epoch in range(3):
        for step in run._epoch_order(epoch):
            names = [run.cohort_of[run.task.bags[row].patient_id] for row in step]
            assert {name: names.count(name) for name in set(names)} == {"large": 4, "small": 4, "one_class": 4}
            drawn += [row for row in step if run.cohort_of[run.task.bags[row].patient_id] == "large"]
    # Each patient of a cohort is drawn once before any is drawn again.
    assert len(set(drawn[:60])) == 60


def test_the_order_of_the_cohorts_does_not_change_a_bit():
    cohorts, params = sources(), settings(epochs=2)
    one = pretraining.pretrain(prepared(cohorts, epochs=2))
    task = pretraining.prepare(cohorts[::-1], config_of(cohorts[0], params), params)
    assert equal(one, pretraining.pretrain(task))
    other = pretraining.pretrain(prepared(cohorts, epochs=2, seed=8))
    assert not equal(one, other)


def test_a_patient_has_the_scale_the_bins_and_the_hazards_of_the_own_cohort():
    task = prepared(sources())
    run = pretraining.PretrainingRun(task, CPU)
    by_name = {one.name: one for one in task.cohorts}
    assert by_name["small"].fitted.edges[1] > 1.5 * by_name["large"].fitted.edges[1]
    small = list(by_name["small"].bags)
    batch = run._collate(small, 0)
    genes = np.stack([bag.genes.numpy() for bag in small]).astype(float)
    np.testing.assert_allclose(batch.genes.numpy(), (genes - genes.mean(0)) / genes.std(0), atol=1e-4)
    edges = np.array(by_name["small"].fitted.edges)
    wanted = [min(np.searchsorted(edges, bag.time_months, side="right") - 1, len(edges) - 2) for bag in small]
    assert batch.bins.tolist() == wanted
    biases = {name: run.state.net.own_tensors(name)["survival_head.out.bias"] for name in by_name}
    for name, one in by_name.items():
        reached = len(one.bags)
        died = sum(bag.event and bag.time_months < one.fitted.edges[1] for bag in one.bags)
        assert torch.sigmoid(biases[name])[0].item() == pytest.approx((died + 0.5) / (reached + 1), abs=1e-5)


def test_the_loss_of_a_step_is_the_mean_of_the_losses_within_the_cohorts():
    run = pretraining.PretrainingRun(prepared(sources(), batch_patients=12), CPU)
    chosen = [run.task.bags[row] for row in run._epoch_order(0)[0]]
    run.state.net.eval()
    parts, _ = run._accumulate(chosen, 0)
    means = []
    for one in run.task.cohorts:
        rows = [bag for bag in chosen if run.cohort_of[bag.patient_id] == one.name]
        batch = run._collate(rows, 0)
        output = run.state.net(one.name, batch.patches, batch.mask, batch.genes)
        means.append(losses.discrete_nll(output.hazard_logits, batch.bins, batch.events, run.params.alpha).mean())
        assert output.subtype_logits.shape[1] == len(one.config.classes)
    assert parts["survival"] == pytest.approx(torch.stack(means).mean().item(), abs=1e-6)


def test_late_entry_of_one_cohort_is_in_its_own_likelihood_alone():
    """The bins are wide: the entry of each patient is half of the follow-up."""
    one, other = cohort("one", 40, 1), cohort("other", 30, 2)
    late = {name: dataclasses.replace(bag, entry_months=bag.time_months / 2) for name, bag in one.bags.items()}
    run = pretraining.PretrainingRun(prepared([dataclasses.replace(one, bags=late), other]), CPU)
    for source in run.task.cohorts:
        batch = run._collate(list(source.bags), 0)
        logits = torch.randn(len(source.bags), len(source.fitted.edges) - 1)
        entry = torch.tensor([bag.time_months / 2 for bag in source.bags])
        before = time_bins.shares_before(entry, source.fitted.edges).float() if source.name == "one" else None
        expected = losses.discrete_nll(logits, batch.bins, batch.events, run.params.alpha, before)
        torch.testing.assert_close(run.objective.objectives[source.name].likelihood(logits, batch), expected)


def test_a_cohort_of_one_subtype_has_no_subtype_loss_and_no_gradient_of_it():
    run = pretraining.PretrainingRun(prepared([cohort("one_class", 30, 3, classes=("A",))], lambda_survival=1e-9), CPU)
    parts, _ = run._accumulate(list(run.task.bags[:8]), 0)
    assert parts["subtype"] == parts["instance"] == 0.0
    assert run.state.net.own_tensors("one_class")["subtype_head.out.weight"].grad.abs().max() == 0


@pytest.mark.parametrize("loss", ["cox", "ranking"])
def test_a_loss_that_compares_patients_compares_those_of_one_cohort(loss):
    run = pretraining.PretrainingRun(prepared(sources(), survival_loss=loss), CPU)
    chosen = [bag for one in run.task.cohorts for bag in one.bags[:4]]
    risk = torch.linspace(-1, 1, len(chosen))
    memory = {bag.patient_id: (0.3, bag.time_months) for one in run.task.cohorts for bag in one.bags[6:9]}
    together = run.objective.pair_terms(risk, chosen, memory)
    for number, one in enumerate(run.task.cohorts):
        stored = {name: pair for name, pair in memory.items() if run.cohort_of[name] == one.name}
        rows = slice(4 * number, 4 * number + 4)
        alone = run.objective.objectives[one.name].pair_terms(risk[rows], chosen[rows], stored)
        torch.testing.assert_close(together[rows], alone)


def test_a_gene_that_a_cohort_lacks_is_at_its_mean():
    full, other = cohort("full", 40, 1), cohort("other", 30, 2)
    bags = {
        name: dataclasses.replace(bag, genes=torch.cat([bag.genes[:-1], torch.tensor([torch.nan])]))
        for name, bag in other.bags.items()
    }
    task = prepared([full, dataclasses.replace(other, bags=bags)], epochs=1)
    run = pretraining.PretrainingRun(task, CPU)
    batch = run._collate(list(task.cohorts[1].bags), 0)
    assert batch.genes[:, -1].abs().max() == 0
    assert batch.genes[:, :-1].std() > 0.5
    result = pretraining.pretrain(task)
    assert all(bool(tensor.isfinite().all()) for tensor in result.tensors.values())


def test_a_covariate_that_a_cohort_does_not_have_is_missing_for_its_patients():
    one, other = cohort("one", 40, 1), cohort("other", 30, 2)
    aged = {
        name: dataclasses.replace(bag, covariates={"age": 50.0 + n}) for n, (name, bag) in enumerate(one.bags.items())
    }
    task = prepared([dataclasses.replace(one, bags=aged), other], architecture={"covariates": ["age"]})
    run = pretraining.PretrainingRun(task, CPU)
    assert run._collate(list(task.cohorts[1].bags), 0).covariates.isnan().all()
    ages = run._collate(list(task.cohorts[0].bags), 0).covariates
    assert ages.mean().abs() < 1e-5
    assert ages.std(correction=0) == pytest.approx(1.0, abs=1e-4)


def test_a_paused_run_resumes_to_the_bits_of_an_uninterrupted_one(tmp_path):
    task = prepared(sources(), epochs=2, checkpoint_seconds=0.0, survival_loss="cox", pair_memory=5, ema=0.5)
    whole = pretraining.pretrain(task)
    requests = []

    def stop():
        requests.append(1)
        return len(requests) == 5

    with pytest.raises(Paused):
        pretraining.pretrain(task, checkpointing=CheckpointConfig(tmp_path, {"of": "test"}, stop))
    resumed = pretraining.pretrain(task, checkpointing=CheckpointConfig(tmp_path, {"of": "test"}))
    assert equal(whole, resumed)
    assert whole.history == resumed.history


def test_only_the_tensors_of_a_cohort_differ_between_the_networks():
    nets = pretraining.PretrainingRun(prepared(sources()), CPU).state.net
    assert isinstance(nets, CohortNetworks)
    names = set(nets.own_names)
    assert {"survival_head.out.bias", "subtype_head.out.weight", "pathology.instance.weight"} <= names
    assert not names & set(nets.shared_tensors())
    assert nets.own_tensors("large")["subtype_head.out.weight"].shape[0] == 2
    assert nets.own_tensors("one_class")["subtype_head.out.weight"].shape[0] == 1


def test_the_gradient_of_a_step_does_not_depend_on_its_parts():
    gradients = []
    for micro in (0, 3):
        run = pretraining.PretrainingRun(prepared(sources(), micro_patients=micro, survival_loss="cox"), CPU)
        run._accumulate([run.task.bags[row] for row in run._epoch_order(0)[0]], 0)
        gradients.append({name: p.grad for name, p in run.state.net.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, value in gradients[0].items():
        torch.testing.assert_close(value, gradients[1][name], atol=1e-5, rtol=1e-3)


def events_removed(data):
    return dataclasses.replace(data, bags={n: dataclasses.replace(b, event=False) for n, b in data.bags.items()})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda all_: [], "no cohort to pretrain on"),
        (lambda all_: [all_[0], all_[0]], "two sources have the cohort name 'large'"),
        (lambda all_: [events_removed(all_[0])], "60 patients with 0 events, in source large"),
        (lambda all_: [dataclasses.replace(all_[0], genes=GENES[::-1])], "its genes are not those of the network"),
        (lambda all_: [narrow(all_[0])], "features of width 5, and the network reads 8"),
        (lambda all_: [with_one_event(all_[0])], "events at 1 different times, and 4 time bins"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused_by_name(change, words):
    cohorts, params = sources(), settings()
    config = config_of(cohorts[0], params)
    with pytest.raises(DataError) as caught:
        pretraining.prepare(change(cohorts), config, params)
    text = f"{caught.value.what}, in {caught.value.where}"
    assert words in text
    assert "source" in caught.value.where


def narrow(data):
    return dataclasses.replace(
        data, bags={n: dataclasses.replace(b, patches=b.patches[:, :5]) for n, b in data.bags.items()}
    )


def with_one_event(data):
    first = next(name for name, bag in data.bags.items() if bag.event)
    return dataclasses.replace(data, bags={n: dataclasses.replace(b, event=n == first) for n, b in data.bags.items()})


def test_genes_alone_are_pretrained_where_no_source_has_slides():
    cohorts = [one.restricted_to("genes") for one in sources()]
    params = settings(epochs=1)
    target = cohort("target", 30, 9)
    task = pretraining.prepare(cohorts, config_of(target, params), params)
    assert task.config.modalities == ("genes",)
    start = pretraining.pretrain(task).start("partial")
    task_of_target = folds.prepare(target, list(target.bags.values()), params, ("fold", 0), "fold 0")
    outcome = loop.train(dataclasses.replace(task_of_target, start=start))
    weights = outcome.model.net.state_dict()
    assert torch.equal(weights["genomics.contents"], start.tensors["genomics.contents"])
