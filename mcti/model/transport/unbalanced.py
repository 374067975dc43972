"""Entropic couplings with soft marginals: batched generalised Sinkhorn."""

from typing import get_args

import torch
from torch import Tensor

from mcti.errors import DataError, UsageError, did_you_mean
from mcti.model.transport.gradient import through_plan
from mcti.model.transport.plan import FLOAT32_TOLERANCE, Plan, Problem, positive, untraced
from mcti.params.architecture import EntropyMeasure

STRIDE = 5  # iterations between two checks of the error
LEAST = 1e-15  # limits of entropy / marginal, so that 1 + softness and its inverse are accurate in float64
FARTHEST = 1e12  # cost / entropy above which float64 has no decimal digit of the exponent
MEASURES: tuple[str, ...] = get_args(EntropyMeasure)
# Largest |cost| / entropy for plain scalings: they reach its exponential, and products of three must be finite.
SAFE = {torch.float32: 20.0, torch.float64: 150.0}


@untraced
def unbalanced(  # noqa: PLR0913  (the parameters of the transport problem)
    cost: Tensor,
    *,
    entropy: float,
    marginal: float,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
    measure: str = "entropy",
    mask_rows: Tensor | None = None,
    mask_columns: Tensor | None = None,
    gradient: bool = False,
) -> Plan:
    """Entropic plan with marginals that are enforced by a KL weight (docs/model.md section 3).

    argmin <P, cost> + entropy·KL(P | R) + marginal·KL(P1 | a) + marginal·KL(P'1 | b), a and b uniform over the present
    tokens; R all ones for measure "entropy" (as the reference), the product a·b' for "kl". Fixed point of
    u = (a / Kv)^f, v = (b / K'u)^f, f = marginal / (marginal + entropy), K = R·exp(-cost / entropy) (Chizat et al.
    2018, Math. Comp. 87, algorithm 1). In logarithms one iteration contracts the distance to the fixed point by f² at
    least, so that a step bounds the remaining distance: `Plan.error` is that bound, and each item stops independently
    when it meets the tolerance. Trap: a constant added to the cost changes the mass, unlike with fixed marginals.

    cost (b, n, m) any finite numbers, entropy and marginal in its units; masks (b, n), (b, m), True = present; an item
    with tokens on one side only has an empty plan -> Plan. Computed in float32 where cost and tolerance allow it, else
    in float64. `gradient`: differentiates the plan by the cost, implicitly; else it is a constant.
    Raises DataError for a bad cost or mask, UsageError for a bad setting.
    """
    positive(entropy=entropy, marginal=marginal, tolerance=tolerance, max_iterations=max_iterations)
    if measure not in MEASURES:
        raise UsageError(f"there is no measure {measure!r}", where="transport", hint=did_you_mean(measure, MEASURES))
    problem = Problem.of(cost, mask_rows, mask_columns)
    softness = min(max(entropy / marginal, LEAST), 1 / LEAST)
    with torch.no_grad(), torch.autocast(cost.device.type, enabled=False):
        state = _state(problem, entropy, softness, measure, tolerance)
        coupling, error, iterations = _to_tolerance(state, max_iterations, tolerance)
    coupling = through_plan(cost, coupling, problem, entropy=entropy, softness=softness, gradient=gradient)
    _check_mass(coupling)
    return Plan(coupling, iterations, error.to(coupling.dtype))


def _state(problem: Problem, entropy: float, softness: float, measure: str, tolerance: float) -> "_Potentials":
    """The iteration in plain scalings where these cannot overflow or underflow, else in logarithms."""
    largest = float(problem.cost.abs().amax()) / entropy if problem.cost.numel() else 0.0
    fine = problem.cost.dtype == torch.float64 or tolerance < FLOAT32_TOLERANCE
    work = torch.float64 if fine or largest > SAFE[torch.float32] else torch.float32
    energy = (problem.cost.to(work) / entropy).clamp(-FARTHEST, FARTHEST)
    a, b = (mass.to(work)[:, None] for mass in problem.masses())
    if measure == "kl":  # the product measure is a cost of -entropy·log(a·b)
        energy = energy - _finite_log(a).mT - _finite_log(b)
    if not problem.whole:
        energy = energy.masked_fill(problem.absent, torch.inf)
    return (_Scalings if largest <= SAFE[work] else _Potentials)(energy, a, b, softness)


def _finite_log(mass: Tensor) -> Tensor:
    return torch.where(mass > 0, mass, 1.0).log()


def _to_tolerance(state: "_Potentials", limit: int, tolerance: float) -> tuple[Tensor, Tensor, int]:
    """Iterate each item until its bound meets the tolerance; coupling (b, n, m), error (b,), iterations."""
    coupling, error = torch.zeros_like(state.energy), state.energy.new_zeros(len(state.energy))
    done = 0
    while len(state.item):
        count = min(STRIDE, limit - done)
        bound = state.advance(count)
        done += count
        finished = bound <= tolerance if done < limit else torch.ones_like(bound, dtype=torch.bool)
        if bool(finished.any()):
            coupling[state.item[finished]], error[state.item[finished]] = state.plan(finished), bound[finished]
            state.keep(~finished)
        state.shift()
    return coupling, error, done


def _check_mass(coupling: Tensor) -> None:
    if not bool(torch.isfinite(coupling).all()):
        raise DataError(
            "the cost is so far below zero that the mass of the plan overflows",
            where="transport, solver unbalanced",
            hint="shift the cost: its minimum must not be below -`marginal` by a large factor",
        )


class _Potentials:
    """x = log u and y = log v, iterated in logarithms: slower, but stable for every finite cost.

    energy (b, n, m) = cost / entropy, inf where absent; a (b, 1, n) and b (b, 1, m) are masses
    """

    def __init__(self, energy: Tensor, a: Tensor, b: Tensor, softness: float) -> None:
        self.energy, self.a, self.b, self.softness = energy, a, b, softness
        self.item = torch.arange(len(energy), device=energy.device)
        self.power = 1 / (1 + softness)  # marginal / (marginal + entropy)
        self.x = self._absent_out(torch.zeros_like(a), a)
        self.y = self._absent_out(torch.zeros_like(b), b)

    @staticmethod
    def _absent_out(potential: Tensor, mass: Tensor) -> Tensor:
        return torch.where(mass > 0, potential, -torch.inf)

    def advance(self, count: int) -> Tensor:
        """`count` iterations; a bound (b,) of the distance: |y - y*| <= f² / (1 - f²) · |last change of y|."""
        before = self.iterate(count)
        change = torch.where(self.b > 0, self.y - before, 0.0).abs().amax((1, 2))
        return change / (2 * self.softness + self.softness**2)

    def iterate(self, count: int) -> Tensor:
        """`count` iterations of x and y; the y before the last of them."""
        before = self.y
        for _ in range(count):
            before = self.y
            self.x = self._half(self.a, torch.logsumexp(self.y - self.energy, 2)[:, None])
            self.y = self._half(self.b, torch.logsumexp(self.x.mT - self.energy, 1)[:, None])
        return before

    def _half(self, mass: Tensor, reached: Tensor) -> Tensor:
        reached = torch.where(reached.isinf(), 0.0, reached)  # no mass on the other side
        return self._absent_out(self.power * (mass.log() - reached), mass)

    def shift(self) -> None:
        """Shift the constant between x and y to the maximum of the dual: the slowest mode of the iteration.

        x + t, y - t do not change the plan; its marginal terms are balanced at
        t = log(sum a·exp(-s·x) / sum b·exp(-s·y)) / 2s, s = entropy / marginal (Sejourne et al. 2022, AISTATS).
        """
        pulls = [
            torch.where(mass > 0, mass.log() - self.softness * potential, -torch.inf).logsumexp(2, keepdim=True)
            for mass, potential in ((self.a, self.x), (self.b, self.y))
        ]
        step = (pulls[0] - pulls[1]) / (2 * self.softness)
        self.y = self.y - torch.where(step.isfinite(), step, 0.0)

    def plan(self, chosen: Tensor) -> Tensor:
        """Coupling of the chosen items."""
        return (self.x[chosen].mT + self.y[chosen] - self.energy[chosen]).exp()

    def keep(self, chosen: Tensor) -> None:
        """Continue with these items only."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[chosen])


class _Scalings(_Potentials):
    """The same iteration on u and v: two products per iteration, without the exponential of the kernel."""

    def __init__(self, energy: Tensor, a: Tensor, b: Tensor, softness: float) -> None:
        super().__init__(energy, a, b, softness)
        self.kernel = (-energy).exp()

    def iterate(self, count: int) -> Tensor:
        """See _Potentials."""
        a, b, v = self.a**self.power, self.b**self.power, self.y.exp()
        tiny, before, u = torch.finfo(v.dtype).tiny, v, v
        for _ in range(count):
            before = v
            u = a * torch.bmm(v, self.kernel.mT).clamp_min(tiny) ** -self.power
            v = b * torch.bmm(u, self.kernel).clamp_min(tiny) ** -self.power
        self.x, self.y = u.log(), v.log()
        return before.log()
