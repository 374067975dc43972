import numpy as np
import pytest
import torch
from torch import nn

from mcti.model.guidance import GuidedAttention, GuidedStack, standard_cost
from tests.model import reference_numpy
from tests.model.cases import config, small_paper


def tokens(seed, streams=2, count=2, length=6, width=8):
    shape = (streams, count, length, width)
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def loud(module, seed=0):
    torch.manual_seed(seed)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    return module.double().eval()


def reference_state(module, stream):
    """Weights of one stream of a GuidedStack under the reference's names."""
    state = {}
    for number, block in enumerate(module.blocks):
        attention, head = block.attention, f"blocks.{number}.0.fn"
        for name, part in zip("qkv", attention.to_qkv.weight[stream].chunk(3), strict=True):
            state[f"{head}.to_{name}.weight"] = part
        state[f"{head}.rescale"] = attention.scale[stream]
        affine = {f"{head}.proj": attention.out, f"blocks.{number}.0.norm": block.norm}
        affine |= {f"{head}.pos_emb.0": attention.local.first, f"{head}.pos_emb.2": attention.local.second}
        affine |= {f"blocks.{number}.1.norm": block.mlp_norm}
        affine |= {f"blocks.{number}.1.fn.net.{i}": p for i, p in ((0, block.mlp.first), (2, block.mlp.second))}
        for name, part in affine.items():
            state |= {f"{name}.weight": part.weight[stream], f"{name}.bias": part.bias[stream]}
    return reference_numpy.Weights({key: value.detach().numpy() for key, value in state.items()})


def test_guided_stack_agrees_with_the_maths_page_written_out():
    """Oracle: tests/model/reference_numpy.py, section 4, NumPy float64 with scipy's assignment."""
    module, x, guides = loud(GuidedStack(2, 2, small_paper())), tokens(1), tokens(2)
    got = module(x, guides).detach().numpy()
    for stream in range(2):
        weights = reference_state(module, stream)
        for patient in range(2):
            expected = reference_numpy.guided_stack(
                weights, x[stream, patient].numpy(), guides[stream, patient].numpy()
            )
            np.testing.assert_allclose(got[stream, patient], expected, rtol=1e-6, atol=1e-8)  # the mass 1/n is float32


def test_the_cost_is_the_standardised_squared_distance():
    guides, values = tokens(1)[0], tokens(2)[0]
    cost = standard_cost(guides, values)
    for patient in range(2):
        plain = reference_numpy.squared_distances(guides[patient].numpy(), values[patient].numpy())
        np.testing.assert_allclose(cost[patient], (plain - plain.mean()) / plain.std(), rtol=1e-9, atol=1e-12)


def test_the_cost_of_masked_tokens_is_that_of_the_tokens_alone():
    guides, values = tokens(1)[0], tokens(2)[0]
    mask = torch.tensor([[True] * 4 + [False] * 2] * 2)
    torch.testing.assert_close(
        standard_cost(guides, values, mask)[:, :4, :4], standard_cost(guides[:, :4], values[:, :4])
    )


def test_the_cost_of_identical_tokens_is_zero_and_not_nan():
    same = torch.ones(1, 5, 8)
    assert (standard_cost(same, same) == 0).all()


@pytest.mark.parametrize("solver", ["assignment", "sinkhorn"])
@pytest.mark.parametrize("to_values", [False, True])
def test_absent_tokens_touch_no_present_one(solver, to_values):
    settings = config(width=8, solver=solver, transpose_plan=to_values, iterations=500, tolerance=1e-9)
    module, x, guides = loud(GuidedStack(2, 2, settings)), tokens(1), tokens(2)
    mask = torch.tensor([[True, False, True, True, False, True]] * 2)
    got, expected = module(x, guides, mask), module(x[:, :, mask[0]], guides[:, :, mask[0]])
    torch.testing.assert_close(got[:, :, mask[0]], expected, rtol=1e-7, atol=1e-9)


def test_each_value_meets_its_matched_guide_when_the_plan_is_transposed():
    """Guides are the values in another order: the transposed plan returns to each value its own copy, divided by n."""
    module = loud(GuidedAttention(1, config(width=8, solver="assignment", transpose_plan=True)))
    values = tokens(3, 1)[0]
    order = torch.tensor([2, 0, 1, 5, 3, 4])
    guides = values[:, order]
    coupling = module.coupler(guides, values, None)
    torch.testing.assert_close(module.coupler.carry(coupling.plan, guides), values / 6)


def test_no_gradient_passes_the_plan_unless_asked():
    """The guides' gradient must be that of a constant plan: plan' (dL/dguided ⊙ v), nothing through the cost."""
    x, guides = tokens(1, 1, 1), tokens(2, 1, 1)
    for gradient in (False, True):
        settings = config(
            width=8, solver="sinkhorn", entropy=0.5, plan_gradient=gradient, tolerance=1e-10, iterations=2000
        )
        module = loud(GuidedAttention(1, settings))
        leaf = guides.clone().requires_grad_()
        coupling = module.coupler(leaf[0], tokens(5, 1, 1)[0], None)
        assert coupling.plan.coupling.requires_grad == gradient
        module(x, leaf, None).sum().backward()
        assert torch.isfinite(leaf.grad).all()


@pytest.mark.parametrize("gradient", [False, True])
def test_gradients_are_those_of_finite_differences(gradient):
    """An assignment is constant around almost every point; through an entropic plan the gradient is implicit."""
    settings = config(width=4, solver="sinkhorn" if gradient else "assignment", entropy=1.0, plan_gradient=gradient,
                      tolerance=1e-12, iterations=5000, transpose_plan=False)  # fmt: skip
    module = loud(GuidedAttention(2, settings))
    x, guides = tokens(1, 2, 2, 4, 4).requires_grad_(), tokens(2, 2, 2, 4, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: module(a, b, None), (x, guides), atol=1e-5)


def test_the_trace_contains_every_coupling_in_order():
    module, trace = loud(GuidedStack(2, 3, small_paper())), []
    module(tokens(1), tokens(2), None, trace)
    assert len(trace) == 3
    assert trace[0].plan.coupling.shape == (4, 6, 6)
    torch.testing.assert_close(trace[0].guides, tokens(2).flatten(0, 1))
