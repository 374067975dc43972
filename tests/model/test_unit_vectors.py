"""Vectors of length one, against NumPy in float64."""

import numpy as np
import pytest
import torch

from mcti.model.unit_vectors import unit


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize(("dtype", "digits"), [(torch.float64, 1e-15), (torch.float32, 2e-7), (torch.bfloat16, 2e-7)])
def test_the_lengths_are_one(dim, dtype, digits):
    x = torch.from_numpy(np.random.default_rng(3).normal(size=(4, 5, 6))).to(dtype)
    exact = x.double().numpy()
    exact = exact / np.linalg.norm(exact, axis=dim, keepdims=True)
    assert np.abs(unit(x, dim).double().numpy() - exact).max() <= digits


def test_squares_beyond_the_range_of_float16_do_not_overflow():
    x = torch.tensor([300.0, 400.0], dtype=torch.float16)
    assert unit(x, 0).tolist() == pytest.approx([0.6, 0.8])


def test_zeros_remain_zeros_and_have_a_finite_gradient():
    x = torch.zeros(3, requires_grad=True)
    unit(x, 0).sum().backward()
    assert unit(x, 0).tolist() == [0.0, 0.0, 0.0]
    assert bool(x.grad.isfinite().all())


def test_the_gradient_is_that_of_finite_differences():
    x = torch.from_numpy(np.random.default_rng(4).normal(size=(3, 4))).requires_grad_()
    assert torch.autograd.gradcheck(lambda value: unit(value, 0), (x,))
    assert torch.autograd.gradgradcheck(lambda value: unit(value, 0), (x,))
