"""Fine-tuning of a pretrained network: what is trained, and the choice in inner folds of the training part."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from mcti.model.prior import Prior
from mcti.training import fine_tuning, folds, loop, pretraining, pretraining_store
from mcti.training.loop import CheckpointConfig
from tests.training.transfer_cohorts import c_of, cohort, settings


def task_of(data, sources=(), prior=None, **changes):
    task = folds.prepare(data, list(data.bags.values()), settings(**changes), ("fold", 0), "fold 0")
    return dataclasses.replace(task, sources=sources, prior=prior)


@pytest.fixture(autouse=True)
def no_stored_pretraining():
    pretraining_store._last.clear()


@pytest.fixture(scope="module")
def related():
    return (cohort("a", 200, 1, shift=4.0), cohort("b", 150, 2, months=90.0))


@pytest.fixture(scope="module")
def target():
    return cohort("target", 40, 7)


@pytest.fixture(scope="module")
def held_out():
    return cohort("held_out", 250, 8)


@pytest.mark.slow
def test_with_few_own_patients_related_cohorts_raise_c_of_new_patients(related, target, held_out):
    alone = loop.train(task_of(target))
    outcome = fine_tuning.train(task_of(target, related))
    assert outcome.fine_tuning["choice"] != "none"
    assert c_of(outcome.model, held_out) > c_of(alone.model, held_out) + 0.05


@pytest.mark.slow
def test_a_cohort_with_the_opposite_effects_is_not_used(target):
    opposite = (cohort("a", 200, 1, effect=-0.6), cohort("b", 150, 2, effect=-0.6))
    outcome = fine_tuning.train(task_of(target, opposite))
    assert outcome.fine_tuning["choice"] == "none"
    alone = loop.train(task_of(target))
    same = [torch.equal(v, alone.model.net.state_dict()[n]) for n, v in outcome.model.net.state_dict().items()]
    assert all(same)


@dataclasses.dataclass
class Compared:
    """What a training reported that compares all ways; the patients of each evaluation in an inner fold."""

    record: dict
    shares: list
    evaluated: list


@pytest.fixture(scope="module")
def compared(related, target):
    evaluated, shares = [], []
    original = fine_tuning.survival_losses

    def record(model, bags, params):
        evaluated.append([bag.patient_id for bag in bags])
        return original(model, bags, params)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fine_tuning, "survival_losses", record)
        report = lambda done, total, *_: shares.append(done / total)  # noqa: E731
        outcome = fine_tuning.train(task_of(target, related[:1], epochs=1), progress=report)
    return Compared(outcome.fine_tuning, shares, evaluated)


def test_the_choice_is_the_lowest_loss_of_patients_held_out_of_the_training_part(target, compared):
    losses = compared.record["inner_loss"]
    assert compared.record["choice"] == min(losses, key=losses.get)
    assert list(losses) == ["none", "frozen", "partial", "full"]
    assert sorted(name for part in compared.evaluated[::4] for name in part) == sorted(target.bags)


def test_the_progress_rises_from_the_pretraining_to_the_last_step(related, target, compared):
    shares = []
    report = lambda done, total, *_: shares.append(done / total)  # noqa: E731
    fine_tuning.train(task_of(target, related[:1], epochs=1, fine_tuning="frozen"), progress=report)
    for reported in (compared.shares, shares):
        assert reported == sorted(reported)
        assert reported[0] < 0.6
        assert reported[-1] == 1.0


def test_the_loss_is_the_likelihood_of_the_predicted_curve(target):
    model = loop.train(task_of(target)).model
    bags = list(target.bags.values())[:12]
    values = fine_tuning.survival_losses(model, bags, settings(alpha=0.5)).numpy()
    for bag, value in zip(bags, values, strict=True):
        output = model.output(bag.patches, bag.genes)
        edges = np.array(model.fitted.edges)
        k = min(int(np.searchsorted(edges, bag.time_months, side="right")) - 1, len(edges) - 2)
        survival = np.concatenate([[1.0], output.survival[0].double().numpy()])
        chance = survival[k] - survival[k + 1] if bag.event else survival[k + 1]
        assert value == pytest.approx(-np.log(chance), abs=1e-5)


@pytest.mark.parametrize(
    ("trained", "fixed", "changed"),
    [
        ("frozen", ["unet.", "genomics.", "pathology.mix"], ["survival_head.out.weight", "subtype_head.out.weight"]),
        ("partial", ["genomics.", "pathology.query"], ["task_tokens", "survival_head.out.weight"]),
        ("full", [], ["genomics.contents", "task_tokens"]),
    ],
)
def test_which_layers_change(related, target, trained, fixed, changed):
    start = pretraining.pretrain(pretraining.prepare(related[:1], task_of(target).config, settings(epochs=1)))
    outcome = loop.train(dataclasses.replace(task_of(target), start=start.start(trained)))
    weights = outcome.model.net.state_dict()
    for name, value in start.tensors.items():
        if name.startswith(tuple(fixed)) and not name.startswith("pathology.instance"):
            assert torch.equal(weights[name], value), name
    for name in changed:
        assert name not in start.tensors or not torch.equal(weights[name], start.tensors[name]), name


def test_without_sources_and_prior_nothing_changes(target):
    one, other = loop.train(task_of(target)), fine_tuning.train(task_of(target))
    assert other.fine_tuning is None
    assert all(torch.equal(v, other.model.net.state_dict()[n]) for n, v in one.model.net.state_dict().items())


def test_the_prior_alone_is_a_start_without_any_patient_of_its_cohort(related, target, held_out):
    registered = loop.train(task_of(related[0])).model
    prior = Prior("pan-cancer", "3", "digest", {"fold_0": registered}, {})
    outcome = fine_tuning.train(task_of(target, prior=prior, fine_tuning="frozen"))
    assert outcome.fine_tuning == {"choice": "frozen", "inner_loss": {}}
    assert torch.equal(outcome.model.net.state_dict()["task_tokens"], registered.net.state_dict()["task_tokens"])
    assert c_of(outcome.model, held_out) > c_of(loop.train(task_of(target)).model, held_out)


def test_of_a_prior_of_another_encoder_only_the_layers_of_genes_are_continued(related, target):
    registered = loop.train(task_of(related[0], epochs=1)).model
    prior = Prior("pan-cancer", "3", "digest", {"fold_0": registered}, {}, slides=False)
    weights = fine_tuning.train(task_of(target, prior=prior, epochs=1, fine_tuning="frozen")).model.net.state_dict()
    trained = registered.net.state_dict()
    assert torch.equal(weights["genomics.contents"], trained["genomics.contents"])
    assert not torch.equal(weights["pathology.query.first.weight"], trained["pathology.query.first.weight"])


def test_each_fold_starts_from_another_member_of_the_prior(related, target):
    members = {f"fold_{k}": loop.train(task_of(related[0], seed=k, epochs=1)).model for k in range(2)}
    prior = Prior("pan-cancer", "3", "digest", members, {})
    for fold in (0, 1, 2):
        task = dataclasses.replace(task_of(target, prior=prior), seed_key=("fold", fold))
        start = fine_tuning._prior_start(task)
        wanted = members[f"fold_{fold % 2}"].net.state_dict()["task_tokens"]
        assert torch.equal(start.tensors["task_tokens"], wanted)


def test_folds_share_one_pretraining_and_it_is_read_after_an_interruption(related, target, tmp_path, monkeypatch):
    task = pretraining.prepare(related[:1], task_of(target).config, settings(epochs=1))
    first = pretraining_store.pretrained(task, CheckpointConfig(tmp_path / "fold_0", {"fold": 0}))
    assert pretraining_store.pretrained(task, CheckpointConfig(tmp_path / "fold_1", {"fold": 1})) is first
    pretraining_store._last.clear()
    steps = []
    monkeypatch.setattr(pretraining.PretrainingRun, "advance", lambda *_: steps.append(1))
    again = pretraining_store.pretrained(task, CheckpointConfig(tmp_path / "fold_1", {"fold": 1}))
    assert not steps
    assert all(torch.equal(value, again.tensors[name]) for name, value in first.tensors.items())


def test_the_identity_of_a_pretraining_follows_patients_and_settings_not_the_target(related, target):
    config = task_of(target).config
    identity = pretraining_store.pretraining_identity(pretraining.prepare(related, config, settings()))
    same = pretraining_store.pretraining_identity(
        pretraining.prepare(related[::-1], config, settings(cox_weight=0.5, fine_tuning="full"))
    )
    assert identity == same
    for other in (settings(epochs=5), settings(seed=8)):
        assert identity != pretraining_store.pretraining_identity(pretraining.prepare(related, config, other))
    assert identity != pretraining_store.pretraining_identity(pretraining.prepare(related[:1], config, settings()))


def test_a_training_part_too_small_for_inner_folds_is_not_transferred(related):
    small = cohort("small", 60, 5)
    few = 0
    bags = {}
    for name, bag in small.bags.items():
        few += bag.event
        bags[name] = dataclasses.replace(bag, event=bag.event and few <= 5)
    outcome = fine_tuning.train(task_of(dataclasses.replace(small, bags=bags), related[:1], epochs=1))
    assert outcome.fine_tuning["choice"] == "none"


@pytest.mark.parametrize("method", ["iterdir", "glob"])
def test_two_tasks_that_finish_at_one_time_may_both_delete_the_pretrainings(tmp_path, monkeypatch, method):
    """The second one deletes after the first one has written its mark, or has listed the pretrainings."""
    parent, names, original, calls = tmp_path / "run", ["fold_0", "fold_1"], getattr(Path, method), []
    (parent / "pretraining_a").mkdir(parents=True)
    pretraining_store.release(parent, ["fold_1"], names)

    def interrupted(path, *pattern):
        listed = list(original(path, *pattern))
        if calls:
            return listed
        calls.append(path)
        pretraining_store.release(parent, ["fold_1"], names)
        return listed if method == "glob" else original(path, *pattern)

    monkeypatch.setattr(Path, method, interrupted)
    pretraining_store.release(parent, ["fold_0"], names)
    assert len(calls) == 1
    assert not parent.exists()
