"""Gradients through an entropic plan, by the implicit function theorem at its fixed point."""

from typing import Any

import torch
from torch import Tensor

from mcti.model.transport.plan import Problem

NULL = 1e-10  # smaller eigenvalues belong to shifts between the two potentials, which do not change the plan


def through_plan(
    cost: Tensor, coupling: Tensor, problem: Problem, *, entropy: float, softness: float, gradient: bool
) -> Tensor:
    """The coupling (b, n, m): with `gradient` a function of the cost (b, n, m), otherwise a constant.

    softness = entropy / marginal for `unbalanced`, 0 for fixed marginals.
    """
    coupling = coupling.to(problem.result_dtype())
    if not gradient:
        return coupling
    return _ImplicitPlan.apply(cost, coupling, entropy, softness)  # type: ignore[no-untyped-call,no-any-return]


class _ImplicitPlan(torch.autograd.Function):
    """P = exp(x + y - cost/entropy) with (1 + s)·diag(P1)·dx + P·dy = (P * dcost)1 / entropy, and so for the columns.

    That is the derivative of the optimality conditions log(P1) = log a - s·x and log(P'1) = log b - s·y, s the
    softness. The system is symmetric, so the backward pass solves it for the incoming gradient (adjoint method).
    Valid at the fixed point: an unconverged plan gives the gradient of a neighbouring problem.
    """

    @staticmethod
    def forward(ctx: Any, cost: Tensor, coupling: Tensor, entropy: float, softness: float) -> Tensor:
        """The coupling, already computed by the solver."""
        ctx.save_for_backward(coupling)
        ctx.entropy, ctx.softness, ctx.dtype = entropy, softness, cost.dtype
        return coupling.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        """Gradient of the cost, by the adjoint system."""
        (coupling,) = ctx.saved_tensors
        plan = coupling.double()
        weighted = plan * upstream.double()
        alpha, beta = _adjoint(plan, weighted, ctx.softness)
        gradient = (plan * (alpha[:, :, None] + beta[:, None, :]) - weighted) / ctx.entropy
        return gradient.to(ctx.dtype), None, None, None


def _adjoint(plan: Tensor, weighted: Tensor, softness: float) -> tuple[Tensor, Tensor]:
    """Solve [(1+s) diag(r), P; P', (1+s) diag(c)] (alpha, beta) = (W1, W'1), by elimination of alpha.

    plan (b, n, m), weighted (b, n, m) -> alpha (b, n), beta (b, m)
    """
    hard = 1.0 + softness
    root_r, root_c = (_inverse_root(plan.sum(axis)) for axis in (2, 1))
    scaled = root_r[:, :, None] * plan * root_c[:, None, :]  # singular values in [0, 1]
    rows, columns = weighted.sum(2) * root_r, weighted.sum(1) * root_c
    schur = hard * torch.eye(plan.shape[2], dtype=plan.dtype, device=plan.device) - scaled.mT @ scaled / hard
    right = columns - torch.einsum("bnm,bn->bm", scaled, rows) / hard
    values, vectors = torch.linalg.eigh(schur)
    inverse = torch.where(values > NULL, 1 / values.clamp_min(NULL), 0.0)
    beta = (vectors @ (inverse[..., None] * (vectors.mT @ right[..., None])))[..., 0]
    alpha = (rows - torch.einsum("bnm,bm->bn", scaled, beta)) / hard
    return alpha * root_r, beta * root_c


def _inverse_root(mass: Tensor) -> Tensor:
    """mass^-1/2, and 0 for a row or column without mass, which moves nothing."""
    return torch.where(mass > 0, mass.clamp_min(torch.finfo(mass.dtype).tiny).rsqrt(), 0.0)
