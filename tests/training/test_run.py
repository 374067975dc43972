"""A step in parts, with a memory, on a GPU that is too small, in fp16, and stopped early."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from sksurv.metrics import concordance_index_censored

from mcti.dataset.batches import collate
from mcti.dataset.sampling import hold_out
from mcti.errors import DataError, OperationalError
from mcti.model.network import MCTI
from mcti.training import folds, loop, losses
from mcti.training import run as running
from tests.training import factories
from tests.training.test_loop import same, task


def gradient(**changes):
    run = running.Run(task(preset="compact", **changes), torch.device("cpu"))
    with loop.reproducible(1):
        parts, _ = run._accumulate(list(run.task.bags[:9]), 0)
    gradients = torch.cat([p.grad.flatten() for p in run.state.net.parameters() if p.grad is not None])
    return parts["loss"], gradients


@pytest.mark.parametrize("survival_loss", ["nll", "cox", "ranking"])
def test_dropout_and_losses_over_pairs_do_not_see_how_a_step_is_cut(survival_loss):
    """Float32 sums in another order: 1e-4 of the largest gradient. Preset compact, with its dropout."""
    whole, parts = gradient(survival_loss=survival_loss), gradient(survival_loss=survival_loss, micro_patients=2)
    assert parts[0] == pytest.approx(whole[0], rel=1e-5)
    torch.testing.assert_close(parts[1], whole[1], rtol=1e-3, atol=1e-4 * float(whole[1].abs().max()))


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_the_memory_puts_former_patients_at_risk_and_counts_their_events_once(ties):
    """Oracle: the partial likelihood of all together with the former ones censored, less their terms (none)."""
    run = running.Run(task(survival_loss="cox", cox_ties=ties, pair_memory=5), torch.device("cpu"))
    bags = list(run.task.bags)
    risk = torch.randn(len(bags), generator=torch.Generator().manual_seed(0))
    memory = {bag.patient_id: (float(value), bag.time_months) for bag, value in zip(bags[8:], risk[8:], strict=True)}
    terms_of_all = run.objective.pair_terms(risk[:8], bags[:8], memory)
    times = torch.tensor([bag.time_months for bag in bags])
    events = torch.tensor([bag.event and number < 8 for number, bag in enumerate(bags)])
    torch.testing.assert_close(terms_of_all, losses.cox_terms(risk, times, events, ties)[:8])
    again = {bags[0].patient_id: (99.0, 1e3), **memory}  # a patient who is here is not at risk twice
    torch.testing.assert_close(run.objective.pair_terms(risk[:8], bags[:8], again), terms_of_all)


def test_the_memory_contains_the_latest_patients_and_is_restored_after_a_pause(tmp_path):
    prepared = task(survival_loss="cox", pair_memory=6)
    undisturbed = loop.train(prepared)
    assert not same(undisturbed, loop.train(task(survival_loss="cox")))
    calls = iter(range(1, 7))
    with pytest.raises(loop.Paused):
        loop.train(prepared, checkpointing=loop.CheckpointConfig(tmp_path, {}, lambda: next(calls) == 4))
    assert same(undisturbed, loop.train(prepared, checkpointing=loop.CheckpointConfig(tmp_path, {})))
    run = running.Run(prepared, torch.device("cpu"))
    with loop.reproducible(1):
        run.advance("")
    assert len(run.state.memory) == 6


def too_small(monkeypatch, most):
    """A GPU that holds `most` patches of a patient."""
    whole = MCTI.forward

    def forward(net, patches, *rest, **options):
        if patches.shape[1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return whole(net, patches, *rest, **options)

    monkeypatch.setattr(MCTI, "forward", forward)


def test_a_gpu_out_of_memory_continues_with_half_the_patches_and_a_warning(monkeypatch, tmp_path):
    too_small(monkeypatch, 8)
    with pytest.warns(running.OutOfMemory, match=r"fold 0, step \d: the GPU is out of memory with 1\d patches"):
        outcome = loop.train(task())
    assert outcome.bag_cap in (5, 6)
    calls = iter(range(1, 7))
    with pytest.warns(running.OutOfMemory), pytest.raises(loop.Paused):
        loop.train(task(), checkpointing=loop.CheckpointConfig(tmp_path, {}, lambda: next(calls) == 4))
    assert same(
        outcome, loop.train(task(), checkpointing=loop.CheckpointConfig(tmp_path, {}))
    )  # the smaller cap is in the checkpoint


def test_a_gpu_that_is_still_too_small_is_a_clear_error(monkeypatch):
    too_small(monkeypatch, 0)
    with (
        pytest.warns(running.OutOfMemory),
        pytest.raises(OperationalError, match=r"with \d patches per patient in fold 0, step \d: set train\.micro"),
    ):
        loop.train(task())


def test_fp16_trains_to_nearly_the_same_loss_and_resumes_to_the_same_bits(tmp_path):
    """float16 keeps 11 bits: the losses agree within a percent. The scale of the loss is part of the state."""
    undisturbed = loop.train(task(precision="fp16", epochs=5))
    plain = loop.train(task(epochs=5))
    assert undisturbed.history[-1]["loss"] == pytest.approx(plain.history[-1]["loss"], rel=0.02)
    calls = iter(range(1, 99))
    with pytest.raises(loop.Paused):
        loop.train(
            task(precision="fp16", epochs=5),
            checkpointing=loop.CheckpointConfig(tmp_path, {}, lambda: next(calls) == 3),
        )
    assert same(
        undisturbed, loop.train(task(precision="fp16", epochs=5), checkpointing=loop.CheckpointConfig(tmp_path, {}))
    )


def test_early_stopping_keeps_the_weights_of_the_lowest_inner_validation_loss(tmp_path):
    prepared = task(patience=2, epochs=60, learning_rate=3e-2, cox_weight=0.0)
    outcome = loop.train(prepared)
    curve = [row["validation"] for row in outcome.history]
    best = min(range(len(curve)), key=curve.__getitem__)
    assert len(curve) == best + 3 < 60
    net, total = outcome.model.net, 0.0
    objective = running.Run(prepared, torch.device("cpu")).objective
    with torch.no_grad():
        for bag in prepared.validation:
            batch = collate([bag], prepared.fitted, 99, (0,))
            total += float(objective.likelihood(net(batch.patches, batch.mask, batch.genes).hazard_logits, batch))
    assert total / len(prepared.validation) == pytest.approx(curve[best], rel=1e-5)
    calls = iter(range(1, 999))
    with pytest.raises(loop.Paused):
        loop.train(prepared, checkpointing=loop.CheckpointConfig(tmp_path, {}, lambda: next(calls) == len(curve) - 1))
    assert same(outcome, loop.train(prepared, checkpointing=loop.CheckpointConfig(tmp_path, {})))


def test_held_out_patients_have_no_influence_on_the_fit():
    data = factories.dataset(24)
    bags = list(data.bags.values())
    kept, held = hold_out(bags, 0.25, (7, "fold", 0))
    assert {bag.patient_id for bag in kept}.isdisjoint(bag.patient_id for bag in held)
    assert sum(bag.event for bag in held) == round(0.25 * sum(bag.event for bag in bags))
    settings = factories.settings(patience=2)
    one = folds.prepare(data, bags, settings, ("fold", 0), "fold 0")
    names = {bag.patient_id for bag in one.validation}
    altered = [dataclasses.replace(b, genes=b.genes + 50) if b.patient_id in names else b for b in bags]
    two = folds.prepare(data, altered, settings, ("fold", 0), "fold 0")
    assert {bag.patient_id for bag in two.validation} == names
    assert one.fitted.spec() == two.fitted.spec()


def test_a_training_part_without_an_event_after_holding_out_is_refused_by_name():
    data = factories.dataset(8)
    bags = [dataclasses.replace(bag, event=False) for bag in data.bags.values()]
    with pytest.raises(DataError, match="0 events in the training part of fold 0, without its inner validation part"):
        folds.prepare(data, bags, factories.settings(patience=1), ("fold", 0), "fold 0")


def test_a_trace_is_written_and_changes_no_bit(tmp_path):
    traced = loop.train(task(), trace=tmp_path / "trace.json")
    assert same(traced, loop.train(task()))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert any("aten::" in event.get("name", "") for event in events)


def test_progress_reports_patients_per_second(tmp_path):
    details = []
    loop.train(task(), progress=lambda *words: details.append(words))
    assert [words[:2] for words in details] == [(step, 6) for step in range(1, 7)]
    unit, detail, restored = details[-1][2:]
    assert (unit, restored) == ("steps", 0)
    assert "patients/s" in detail


def sksurv_c(bags, model):
    """Oracle: concordance_index_censored of scikit-survival, of the risks that the trained model predicts."""
    events, months = np.array([bag.event for bag in bags]), np.array([bag.time_months for bag in bags])
    risks = [model.predict(bag.patches, bag.genes, (12.0,), bag.covariates)["risk"] for bag in bags]
    return concordance_index_censored(events, months, np.array(risks))[0]


def test_the_c_of_an_epoch_is_that_of_the_training_patients():
    """With a learning rate near 0 and without dropout, all steps of an epoch predict as the final model does."""
    current = task(learning_rate=1e-12, weight_decay=0, cox_weight=0, epochs=2, batch_patients=5)
    outcome = loop.train(current)
    assert [row["c_index"] for row in outcome.history] == [pytest.approx(sksurv_c(current.bags, outcome.model))] * 2


@pytest.mark.parametrize("changes", [{"micro_patients": 2}, {"survival_loss": "cox"}, {"survival_loss": "ranking"}])
def test_the_c_of_an_epoch_does_not_depend_on_the_split_of_a_step_or_the_loss(changes):
    constant = {"learning_rate": 1e-12, "weight_decay": 0, "epochs": 1}
    (plain,), (other,) = (loop.train(task(**constant, **more)).history for more in ({}, changes))
    assert other["c_index"] == plain["c_index"]


def test_the_c_of_the_validation_part_is_that_of_the_patients_held_out():
    current = task(patience=5, validation_share=0.4, cox_weight=0, epochs=3)
    outcome = loop.train(current)
    best = min(outcome.history, key=lambda row: row["validation"])
    assert best["validation_c_index"] == pytest.approx(sksurv_c(current.validation, outcome.model))


def test_training_does_not_import_the_compiler():
    """In a new process, with bags of two blocks (8 patients of up to 12 patches, 64 rows in a block)."""
    code = (
        "import sys, torch\n"
        "from mcti.training.folds import prepare\n"
        "from mcti.training.loop import train\n"
        "from tests.training import factories\n"
        "settings = factories.settings(epochs=1)\n"
        "train(prepare(factories.dataset(), factories.bags(), settings, ('fold', 0), 'fold 0'))\n"
        "assert not any(name.startswith('torch._dynamo') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
