"""Newton steps on the semi-dual of an entropic plan: they converge where Sinkhorn's iteration is slow."""

import torch
from torch import Tensor

HALVINGS = 12
LONGEST = 30.0  # longest trial step of a potential, in entropies: the quadratic model is not valid for longer ones
ASCENT = 1e-4  # share of the predicted gain that a step must bring (Armijo)
# Times the error, added to eigenvalues in [0, 1]: it vanishes with the error, so convergence remains superlinear.
RIDGE = 1e-3
LEAST_RIDGE = 1e-13


def newton_step(energy: Tensor, a: Tensor, b: Tensor, y: Tensor) -> Tensor:
    """The column potentials y (b, 1, m) after one guarded Newton step; unchanged in an item without improvement.

    Maximises F(y) = b·y - sum_i a_i·log sum_j exp(y_j - energy_ij), concave, with gradient b - c and Hessian
    P'·diag(1/a)·P - diag(c), P the plan with row sums a and c its column sums (Cuturi and Peyre 2018, SIAM Rev.
    60(4), section 3). Plain iterations contract by the plan's second singular value squared, which approaches 1 where
    the plan approaches a permutation or a block structure; Newton's rate does not depend on it.

    energy (b, n, m) = cost / entropy, inf where absent; a (b, 1, n), b (b, 1, m) masses, 0 where absent; all float64.
    """
    value, plan = _semi_dual(energy, a, b, y)
    gradient = b - plan.sum(1, keepdim=True)
    direction = _direction(plan, a, b, gradient)
    slope = (gradient * direction).sum(2)[:, 0]
    error = _error(gradient, b)
    step = (LONGEST / direction.abs().amax((1, 2)).clamp_min(LONGEST)) * (slope > 0)
    for _ in range(HALVINGS):
        trial = torch.where(b > 0, y + step[:, None, None] * direction, y)
        gained, moved = _semi_dual(energy, a, b, trial)
        # Near the optimum F is constant up to rounding: the gradient decides.
        smaller = _error(b - moved.sum(1, keepdim=True), b) < error / 2
        accepted = (gained >= value + ASCENT * step * slope) & (gained > value) | smaller | (step == 0)
        if bool(accepted.all()):
            break
        step = torch.where(accepted, step, step / 2)
    return torch.where(accepted[:, None, None], trial, y)


def _semi_dual(energy: Tensor, a: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """F (b,) and the plan (b, n, m) with row sums a."""
    logits = y - energy
    top = logits.amax(2, keepdim=True)
    top = torch.where(top.isinf(), 0.0, top)
    plan = (logits - top).exp_()
    sums = plan.sum(2, keepdim=True)
    tiny = torch.finfo(sums.dtype).tiny
    reached = torch.where(a > 0, (top + sums.clamp_min(tiny).log()).mT, 0.0)
    value = (torch.where(b > 0, b * y, 0.0).sum(2) - (a * reached).sum(2))[:, 0]
    return value, plan * (a.mT / sums.clamp_min(tiny))


def _error(gradient: Tensor, b: Tensor) -> Tensor:
    """Largest relative error (b,) of a column."""
    return torch.where(b > 0, gradient / b, 0.0).abs().amax((1, 2))


def _direction(plan: Tensor, a: Tensor, b: Tensor, gradient: Tensor) -> Tensor:
    """Newton direction (b, 1, m), in columns scaled by b^-1/2 so that the eigenvalues are pure numbers."""
    root_a, root_b = (torch.where(mass > 0, mass, 1.0).rsqrt() for mass in (a, b))
    scaled = root_a.mT * plan * root_b
    diagonal = torch.where(b > 0, plan.sum(1, keepdim=True) * root_b.square(), 1.0)
    diagonal = diagonal + (RIDGE * _error(gradient, b)).clamp(LEAST_RIDGE, 1.0)[:, None, None]
    constant = b.sqrt()  # a shift of all potentials has no effect: its zero eigenvalue is filled for the factorisation
    hessian = torch.diag_embed(diagonal[:, 0]) - scaled.mT @ scaled + constant.mT @ constant
    factor, failed = torch.linalg.cholesky_ex(hessian)
    solution = torch.cholesky_solve((gradient * root_b).mT, factor).mT * root_b
    usable = (failed == 0) & solution.isfinite().all(2)[:, 0]
    return torch.where(usable[:, None, None] & (b > 0), solution, 0.0)
