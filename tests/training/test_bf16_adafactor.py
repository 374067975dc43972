"""The bf16 Adafactor optimizer: its step, its roundings on average, its memory, and an exact resumption."""

import pytest
import torch
from pydantic import ValidationError

from mcti.params import TrainParams
from mcti.training import bf16_adafactor, loop
from tests.training.test_loop import same, task, weights

SETTINGS = {"optimizer": "bf16_adafactor", "precision": "bf16"}


def one(weight, slope, **settings):
    parameter = torch.nn.Parameter(weight.clone())
    optimizer = bf16_adafactor.Bf16Adafactor([parameter], lr=0.5, seed=3, **settings)
    parameter.grad = slope.clone()
    optimizer.step()
    return parameter.detach(), optimizer.state[parameter]


def test_a_first_step_of_separable_squares_is_the_sign_of_the_gradient():
    """Where g² is an outer product, its factors are exact, so g / √v = ±1; the decay lr · decay is subtracted first."""
    slope = torch.tensor([1.0, -2.0, 4.0])[:, None] * torch.tensor([3.0, -1.0])
    moved, _ = one(torch.ones(3, 2), slope, weight_decay=0.1)
    torch.testing.assert_close(moved, 0.95 - 0.5 * slope.sign())
    vector, _ = one(torch.zeros(2), torch.tensor([0.3, -7.0]))
    torch.testing.assert_close(vector, torch.tensor([-0.5, 0.5]))


def test_a_sudden_gradient_moves_no_further_than_one_step_size():
    """Second step, gradient a thousandfold: the root mean square of the update stays 1."""
    parameter = torch.nn.Parameter(torch.zeros(4, 4))
    optimizer = bf16_adafactor.Bf16Adafactor([parameter], lr=0.5, seed=3)
    slope = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    for size in (1.0, 1000.0):
        before = parameter.detach().clone()
        parameter.grad = size * slope
        optimizer.step()
    assert (parameter.detach() - before).square().mean().sqrt() == pytest.approx(0.5, rel=1e-4)


def test_a_matrix_in_pieces_takes_the_step_of_the_whole(monkeypatch):
    """A stack of two matrices has separate moments for each, for any size of a block."""
    generator = torch.Generator().manual_seed(1)
    weight, slope = (torch.randn(2, 6, 5, generator=generator) for _ in range(2))
    whole, moments = one(weight, slope)
    monkeypatch.setattr(bf16_adafactor, "_SLAB", 10)
    pieces, others = one(weight, slope)
    torch.testing.assert_close(pieces, whole)
    torch.testing.assert_close(others["columns"], moments["columns"])
    for row in range(2):
        torch.testing.assert_close(one(weight[row], slope[row])[1]["rows"], moments["rows"][row])


def test_stochastic_rounding_is_unbiased_and_exact_for_representable_values():
    """1 + 2^-9 is a quarter of the distance from 1 to the next bfloat16, 1 + 2^-7."""
    generator = torch.Generator().manual_seed(0)
    rounded = bf16_adafactor.stochastic(torch.full((40000,), 1 + 2**-9), generator).float()
    assert set(rounded.tolist()) == {1.0, 1 + 2**-7}
    assert float((rounded > 1).float().mean()) == pytest.approx(0.25, abs=0.01)  # five standard errors
    known = torch.tensor([0.0, -1.5, 3e38, -(2.0**-120)]).bfloat16()
    assert torch.equal(bf16_adafactor.stochastic(known.float(), generator), known)


def test_it_keeps_a_row_and_a_column_of_each_matrix():
    parameter, state = one(torch.zeros(300, 200, dtype=torch.bfloat16), torch.ones(300, 200, dtype=torch.bfloat16))
    assert parameter.dtype == torch.bfloat16
    assert sum(value.numel() for value in state.values()) == 300 + 200 + 1


def test_a_paused_training_resumes_to_the_same_bits_and_ends_in_float32(tmp_path):
    undisturbed = loop.train(task(**SETTINGS))
    calls = iter(range(1, 9))
    with pytest.raises(loop.Paused):
        loop.train(task(**SETTINGS), checkpointing=loop.CheckpointConfig(tmp_path, {}, lambda: next(calls) == 4))
    resumed = loop.train(task(**SETTINGS), checkpointing=loop.CheckpointConfig(tmp_path, {}))
    assert same(undisturbed, resumed)
    assert undisturbed.history == resumed.history
    assert {value.dtype for value in weights(resumed).values()} == {torch.float32}
    assert not same(undisturbed, loop.train(task(precision="bf16")))


def test_training_lowers_the_loss_nearly_as_adamw_does():
    """12 epochs on data with a signal, compared with AdamW in bf16."""
    ends = {}
    for name in ("adamw", "bf16_adafactor"):
        history = loop.train(task(optimizer=name, precision="bf16", epochs=12, learning_rate=1e-2)).history
        ends[name] = history[-1]["loss"] / history[0]["loss"]
    assert ends["bf16_adafactor"] < 0.8
    assert ends["bf16_adafactor"] == pytest.approx(ends["adamw"], abs=0.1)


def test_averaged_weights_are_kept_in_float32():
    """A tenth of a difference of one rounding is lost in bf16."""
    outcome = loop.train(task(ema=0.9, **SETTINGS))
    kept = torch.cat([value.flatten() for name, value in weights(outcome).items() if "unet" in name])
    assert not torch.equal(kept, kept.bfloat16().float())


def test_without_bf16_it_is_refused():
    with pytest.raises(ValidationError, match="optimizer bf16_adafactor needs bf16, and precision is float32"):
        TrainParams(optimizer="bf16_adafactor")
