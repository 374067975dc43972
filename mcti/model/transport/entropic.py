"""Entropic couplings with fixed marginals: batched Sinkhorn in stabilised scalings."""

import math

import torch
from torch import Tensor

from mcti.model.transport.gradient import through_plan
from mcti.model.transport.newton import newton_step
from mcti.model.transport.plan import FLOAT32_SPREAD, FLOAT32_TOLERANCE, Plan, Problem, positive, untraced

STRIDE = 5  # iterations between two checks of the error
COARSER = 4.0  # entropy of a level over that of the next
EASY = 64.0  # spread of the costs over the entropy up to which coarser levels do not save time
PATIENCE = 50  # iterations before Newton steps are inserted: one step costs about as much as these iterations
WARM_UP = 10  # iterations on each coarser level
FAR = 6  # coarser levels from which on each ends with a Newton step: so long a path, ten iterations a level lose it
FINEST = (
    1e-12  # least entropy over the spread of the costs: below, float64 does not distinguish it from exact transport
)


@untraced
def sinkhorn(
    cost: Tensor,
    *,
    entropy: float,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
    mask_rows: Tensor | None = None,
    mask_columns: Tensor | None = None,
    gradient: bool = False,
) -> Plan:
    """Balanced entropic plan: argmin <P, cost> + entropy·sum P (log P - 1), uniform marginals over the present.

    Scalings of a kernel that contains the potentials (Schmitzer 2019, SIAM J. Sci. Comput. 41(3), section 3), so that
    neither small entropies nor large costs underflow. Widely spread costs are solved at coarser levels of the entropy
    first; items that have not converged by then get a Newton step after every few iterations.
    Each item stops independently: its numbers do not depend on the other items of the batch. The marginals of the
    columns hold to rounding; `Plan.error` is the error of the rows. Trap: convergence is not accuracy; the plan of a
    large entropy is far from the exact coupling for any tolerance.

    cost (b, n, m) any finite numbers, entropy in units of the cost, tolerance relative to the mass of a row; masks
    (b, n), (b, m), True = present -> Plan. Computed in float32 where cost and tolerance allow it, else in float64.
    `gradient`: differentiates the plan by the cost, implicitly at the fixed point; else the plan is a constant.
    Raises DataError for a bad cost or mask or an item with tokens on one side alone, UsageError for a bad setting.
    """
    positive(entropy=entropy, tolerance=tolerance, max_iterations=max_iterations)
    problem = Problem.of(cost, mask_rows, mask_columns)
    problem.both_or_neither()
    with torch.no_grad(), torch.autocast(cost.device.type, enabled=False):
        energy, spread = _energy(problem, entropy, tolerance)
        coupling, error, iterations = _solve(energy, spread, problem, max_iterations, tolerance)
    coupling = through_plan(cost, coupling, problem, entropy=entropy, softness=0.0, gradient=gradient)
    return Plan(coupling, iterations, error.to(coupling.dtype))


def _energy(problem: Problem, entropy: float, tolerance: float) -> tuple[Tensor, Tensor]:
    """(cost - its minimum) / entropy (b, n, m), inf where absent, and the largest present entry (b,) in float64.

    float32 where the costs differ by few entropies and the tolerance is above its rounding, else float64.
    """
    cost = problem.cost
    low, high = cost, cost
    if not problem.whole:
        low, high = cost.masked_fill(problem.absent, torch.inf), cost.masked_fill(problem.absent, -torch.inf)
    least, most = low.amin((1, 2)).double(), high.amax((1, 2)).double()
    # Halved, because the difference of the largest finite numbers overflows; an item without tokens is -inf.
    half = (most / 2 - least / 2).clamp_min(0)
    scale = 2 / (2 * FINEST * half).clamp_min(max(entropy, torch.finfo(torch.float64).tiny))
    spread = half * scale
    fine = cost.dtype == torch.float64 or tolerance < FLOAT32_TOLERANCE or bool((spread > FLOAT32_SPREAD).any())
    work = torch.float64 if fine else torch.float32
    scale = scale.clamp_max(torch.finfo(work).max)  # equal costs with an entropy close to zero
    energy = (cost.to(work) / 2 - (least / 2).to(work)[:, None, None]) * scale.to(work)[:, None, None]
    return energy if problem.whole else energy.masked_fill(problem.absent, torch.inf), spread


def _solve(
    energy: Tensor, spread: Tensor, problem: Problem, max_iterations: int, tolerance: float
) -> tuple[Tensor, Tensor, int]:
    """Coupling (b, n, m), error (b,) and iterations of the slowest item; solved in groups of equal level counts."""
    coupling, error, slowest = torch.zeros_like(energy), energy.new_zeros(len(energy)), 0
    levels = (spread / EASY).clamp_min(1).log().div(math.log(COARSER)).ceil()
    levels = levels.clamp_max(
        max_iterations // (2 * (WARM_UP + 1))
    )  # at most half of the iterations for coarser levels
    for count in sorted(set(levels.int().tolist())):
        state = _Scaling(energy, problem)
        state.keep(levels == count)
        for level in range(count, 0, -1):
            state.rebuild(COARSER**level)
            state.step(WARM_UP)
            if count >= FAR:
                state.newton()
        state.rebuild(1.0)
        used = _to_tolerance(state, (WARM_UP + (count >= FAR)) * count, max_iterations, tolerance, coupling, error)
        slowest = max(slowest, used)
    return coupling, error, slowest


def _to_tolerance(state: "_Scaling", done: int, limit: int, tolerance: float, coupling: Tensor, error: Tensor) -> int:
    """Iterate each item to the tolerance, write its coupling and error in place; the iterations of the slowest."""
    while len(state.item):
        count = min(STRIDE, limit - done)
        finished = state.step(count) <= tolerance
        done += count
        if done == limit:
            finished = torch.ones_like(finished)
        if bool(finished.any()):
            coupling[state.item[finished]], error[state.item[finished]] = state.plan(finished)
            state.keep(~finished)
        if PATIENCE <= done < limit - 1 and len(state.item):
            state.newton()
            done += 1
        elif state.needs_rebuild():
            state.rebuild(1.0)
    return done


class _Scaling:
    """Scalings u, v of kernel = exp(x + y - energy / level) for the items that are not finished.

    The kernel is computed from y alone, with 1 as the largest entry of each row. Initially y makes 1 the largest entry
    of each column, too, and after an iteration each column has its mass: no significant entry can underflow. u and v
    are absorbed into y before they leave the number range.
    """

    def __init__(self, energy: Tensor, problem: Problem) -> None:
        self.energy, self.item = energy, torch.arange(len(energy), device=energy.device)
        self.a, self.b = (mass.to(energy.dtype)[:, None] for mass in problem.masses())  # (b, 1, n), (b, 1, m)
        reduced = _finite(energy.amin(2, keepdim=True)) - energy
        self.y = torch.where(
            self.b > 0, -reduced.amax(1, keepdim=True), -torch.inf
        )  # in units of the entropy of the level
        self.level, self.u, self.v = 1.0, torch.ones_like(self.a), torch.ones_like(self.b)
        self.kernel = energy
        self.tiny = torch.finfo(energy.dtype).tiny

    def rebuild(self, level: float) -> None:
        """Absorb v into y, in units of the entropy of this level, and recompute the kernel."""
        self.y = (self.y + self.v.log()) * (self.level / level)
        logits = self.y - self.energy / level
        logits -= _finite(logits.amax(2, keepdim=True))
        self.kernel = logits.exp_()
        self.u, self.v, self.level = torch.ones_like(self.a), torch.ones_like(self.b), level

    def step(self, count: int) -> Tensor:
        """`count` iterations; the largest relative error of a row (b,) before the last of them."""
        for _ in range(count):
            before = self.u
            self.u = self.a / torch.bmm(self.v, self.kernel.mT).clamp_min(self.tiny)
            self.v = self.b / torch.bmm(self.u, self.kernel).clamp_min(self.tiny)
        return torch.where(self.a > 0, (before / self.u - 1).abs(), 0.0).amax((1, 2))

    def newton(self) -> None:
        """Apply a Newton step in float64 to the potentials, at the entropy of the level."""
        double = [value.double() for value in (self.energy / self.level, self.a, self.b, self.y + self.v.log())]
        self.y, self.v = newton_step(*double).to(self.y.dtype), torch.ones_like(self.v)
        self.rebuild(self.level)

    def needs_rebuild(self) -> bool:
        """Whether a scaling leaves the middle third of the number range."""
        if not len(self.item):
            return False
        wide = self.tiny ** (-1 / 4)
        largest = torch.maximum(self.u.amax(), self.v.amax())
        least = torch.minimum(torch.where(self.a > 0, self.u, 1.0).amin(), torch.where(self.b > 0, self.v, 1.0).amin())
        return bool((largest > wide) | (least < 1 / wide))

    def plan(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Coupling and error of the chosen items."""
        coupling = self.kernel[chosen] * self.u[chosen].mT * self.v[chosen]
        a = self.a[chosen][:, 0]
        error = torch.where(a > 0, coupling.sum(2) / a - 1, 0.0).abs().amax(1)
        return coupling, error

    def keep(self, chosen: Tensor) -> None:
        """Continue with these items only."""
        if bool(chosen.all()):
            return
        for name in ("energy", "item", "a", "b", "y", "u", "v", "kernel"):
            setattr(self, name, getattr(self, name)[chosen])


def _finite(largest: Tensor) -> Tensor:
    """0 for an absent row or column, whose entries are all -inf; otherwise the value."""
    return torch.where(largest.isinf(), 0.0, largest)
