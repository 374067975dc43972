import dataclasses
import math
import random

import numpy as np
import pytest
import torch

from mcti.dataset.batches import collate
from mcti.dataset.time_bins import base_hazard
from mcti.errors import DataError
from mcti.params import TrainParams
from mcti.training import checkpoints, folds, loop
from mcti.training import run as running
from tests.training import factories


def task(**changes):
    data = factories.dataset(16)
    return folds.prepare(data, list(data.bags.values()), factories.settings(**changes), ("fold", 0), "fold 0")


def weights(outcome):
    return outcome.model.net.state_dict()


def same(one, two):
    return all(torch.equal(value, weights(two)[name]) for name, value in weights(one).items())


@pytest.fixture(scope="module")
def plain():
    return loop.train(task())


def test_two_runs_give_the_same_bits_whatever_the_global_random_state(plain):
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again = loop.train(task())
    assert same(plain, again)
    assert plain.history == again.history
    assert torch.equal(torch.get_rng_state(), before)  # and the caller's state is left alone
    assert torch.get_deterministic_debug_mode() == 0


def test_another_seed_gives_other_weights(plain):
    assert not same(plain, loop.train(task(seed=8)))


def test_training_lowers_the_loss_on_data_that_hold_a_signal():
    history = loop.train(task(epochs=8, learning_rate=1e-2)).history
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def test_a_run_paused_after_any_step_resumes_to_the_same_bits(plain, tmp_path):
    """The run pauses at every step once; weights and learning curve equal those of the uninterrupted run."""
    steps = 3 * 2
    for cut in range(1, steps + 1):
        folder, calls = tmp_path / str(cut), iter(range(1, steps + 1))
        with pytest.raises(loop.Paused, match=f"paused after step {cut} in fold 0"):
            loop.train(task(), checkpointing=loop.CheckpointConfig(folder, {"a": 1}, lambda: next(calls) == cut))  # noqa: B023
        resumed = loop.train(task(), checkpointing=loop.CheckpointConfig(folder, {"a": 1}))
        assert same(plain, resumed)
        assert plain.history == resumed.history


def test_checkpoints_on_the_way_change_nothing(plain, tmp_path):
    kept = loop.train(task(checkpoint_seconds=0), checkpointing=loop.CheckpointConfig(tmp_path, {}))
    assert same(plain, kept)
    assert len(list(tmp_path.glob("*.checkpoint"))) == 2


def test_averaged_weights_resume_to_the_same_bits_too(tmp_path):
    undisturbed = loop.train(task(ema=0.9))
    assert not same(undisturbed, loop.train(task()))
    calls = iter(range(1, 9))
    with pytest.raises(loop.Paused):
        loop.train(task(ema=0.9), checkpointing=loop.CheckpointConfig(tmp_path, {}, lambda: next(calls) == 4))
    assert same(undisturbed, loop.train(task(ema=0.9), checkpointing=loop.CheckpointConfig(tmp_path, {})))


def test_a_corrupt_checkpoint_costs_steps_and_no_bit(plain, tmp_path):
    calls = iter(range(1, 9))
    with pytest.raises(loop.Paused):
        loop.train(
            task(checkpoint_seconds=0), checkpointing=loop.CheckpointConfig(tmp_path, {}, lambda: next(calls) == 4)
        )
    newest = max(tmp_path.glob("*.checkpoint"))
    newest.write_bytes(newest.read_bytes()[:-9])
    with pytest.warns(checkpoints.CorruptCheckpoint, match=newest.name):
        assert same(plain, loop.train(task(), checkpointing=loop.CheckpointConfig(tmp_path, {})))


def test_patients_in_parts_give_the_same_loss_and_gradient_as_all_at_once():
    """Float32 sums in another order: 1e-5 on gradients of order 1."""
    runs = []
    for micro in (0, 3):
        run = running.Run(task(micro_patients=micro), torch.device("cpu"))
        with loop.reproducible(1):
            parts, _ = run._accumulate(list(run.task.bags[:8]), 0)
        gradients = torch.cat([p.grad.flatten() for p in run.state.net.parameters() if p.grad is not None])
        runs.append((parts["loss"], gradients))
    assert runs[0][0] == pytest.approx(runs[1][0], rel=1e-5)
    torch.testing.assert_close(runs[0][1], runs[1][1], rtol=1e-4, atol=1e-5)


def test_a_loss_that_is_no_number_stops_with_step_patients_and_checkpoint(tmp_path):
    broken = task(checkpoint_seconds=0)
    silent = dataclasses.replace(broken.bags[5], genes=torch.full((len(factories.GENES),), 3e38))
    wrong = dataclasses.replace(broken, bags=[*broken.bags[:5], silent, *broken.bags[6:]])
    with pytest.raises(running.Diverged, match=r"fold 0, step \d.*P-005.*last good checkpoint: ") as caught:
        loop.train(wrong, checkpointing=loop.CheckpointConfig(tmp_path, {}))
    assert isinstance(caught.value, DataError)


def test_the_learning_rate_rises_then_falls_to_nothing():
    params = TrainParams(learning_rate=1.0, warmup_share=0.1)
    rates = [running.learning_rate(step, 100, params) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.001
    assert all(math.isfinite(rate) for rate in [running.learning_rate(0, 1, params)])


def test_modality_dropout_hides_one_modality_at_the_configured_rate_and_never_both():
    prepared = task(modality_dropout=0.5)
    run = running.Run(prepared, torch.device("cpu"))
    batch = collate(list(prepared.bags), prepared.fitted, 99, (0, 0))
    hidden = [run._hide(batch, epoch) for epoch in range(60)]
    slides = torch.stack([hidden_batch.slides_present for hidden_batch in hidden]).float().mean()
    genes = torch.stack([hidden_batch.genes_present for hidden_batch in hidden]).float().mean()
    assert all(bool((hidden_batch.slides_present | hidden_batch.genes_present).all()) for hidden_batch in hidden)
    for share in (slides, genes):  # 960 draws of chance 1/4: sd 0.014
        assert share.item() == pytest.approx(0.75, abs=0.06)


def test_a_model_trained_with_dropout_predicts_from_either_modality():
    model = loop.train(task(modality_dropout=0.5)).model
    bag = factories.bags(16)[3]
    risks = {
        model.predict(*prepared, (12,))["risk"]
        for prepared in ((bag.patches, bag.genes), (None, bag.genes), (bag.patches, None))
    }
    assert len(risks) == 3
    with pytest.raises(DataError, match="no slides"):
        model.predict(None, None, (12,))


def test_a_model_trained_on_both_refuses_a_patient_with_one(plain):
    bag = factories.bags(16)[3]
    with pytest.raises(DataError, match="no slides, and the model was trained on patients with both"):
        plain.model.predict(None, bag.genes, (12,))


@pytest.mark.parametrize("survival_loss", ["cox", "ranking"])
def test_the_other_survival_losses_train(survival_loss):
    history = loop.train(task(survival_loss=survival_loss, epochs=8, learning_rate=1e-2)).history
    assert history[-1]["survival"] < history[0]["survival"]


def test_bf16_trains_to_nearly_the_same_loss():
    """bfloat16 keeps 8 bits: the losses of a short run agree within a few percent."""
    one, two = (loop.train(task(precision=precision)).history[-1]["loss"] for precision in ("float32", "bf16"))
    assert two == pytest.approx(one, rel=0.05)


def test_training_draws_nothing_from_numpy_or_random():
    before = np.random.get_state()[1].copy(), random.getstate()
    loop.train(task(epochs=1))
    assert (np.random.get_state()[1] == before[0]).all()
    assert random.getstate() == before[1]


def test_training_starts_at_the_base_hazard_of_its_part():
    """Before the first step each predicted hazard is near the share of the training part with the event in that bin."""
    prepared = task()
    run = running.Run(prepared, torch.device("cpu"))
    expected = base_hazard(prepared.bags, prepared.fitted.edges)
    torch.testing.assert_close(run.state.net.survival_head.out.bias.detach(), torch.logit(expected))


def test_the_largest_learning_rate_diverges_and_a_larger_one_is_refused():
    """Beyond it torch itself fails in the optimizer: a step no longer fits float32."""
    with pytest.raises(running.Diverged, match=r"lower train\.learning_rate"):
        loop.train(task(learning_rate=1e36))
    with pytest.raises(ValueError, match="less than or equal to"):
        factories.settings(learning_rate=1.1e36)
