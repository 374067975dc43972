"""Couplings of low rank: two thin factors, computed by mirror descent without the n x m plan."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mcti.errors import DataError
from mcti.model.transport.plan import Plan, Problem, positive, untraced

STEP = 10.0  # step of the mirror descent, in units of the largest entry of the gradient
ROUNDS = 20  # Sinkhorn rounds of a projection: a fixed number, so that no item depends on its neighbours
PATIENCE = 10  # iterations over which the cost must fall by the tolerance


class LowRankPlan(Plan):
    """coupling = rows · diag(r) · columns', stored as its factors.

    rows (b, n, r) and columns (b, m, r): joint masses of the tokens and the r latent classes, each class of mass
    1/r. `coupling` (b, n, m) is computed at each access; `carry` does not need it: O((n + m)·r·D).
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, rows: Tensor, columns: Tensor, iterations: int, error: Tensor) -> None:
        for name, value in (("rows", rows), ("columns", columns), ("iterations", iterations), ("error", error)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "permutation", None)

    @property
    def coupling(self) -> Tensor:
        """The dense plan (b, n, m); O(n·m) memory."""
        return self.rows @ self.columns.mT * self.rows.shape[2]

    def carry(self, tokens: Tensor) -> Tensor:
        """coupling @ tokens (b, m, D) -> (b, n, D), computed through the r classes."""
        rank = self.rows.shape[2]
        return self.rows.to(tokens.dtype) @ (self.columns.mT.to(tokens.dtype) @ tokens * rank)

    def repeated(self, times: int) -> "LowRankPlan":
        """Each item of the batch repeated `times` times in succession."""
        rows, columns, error = (value.repeat_interleave(times, 0) for value in (self.rows, self.columns, self.error))
        return LowRankPlan(rows, columns, self.iterations, error)

    def transposed(self) -> "LowRankPlan":
        """The same mass with rows and columns exchanged."""
        return LowRankPlan(self.columns, self.rows, self.iterations, self.error)


@dataclass(frozen=True)
class _Costs:
    """A batch of costs as a linear operator on thin matrices: (b, m, r) -> (b, n, r), and its transpose."""

    times: Callable[[Tensor], Tensor]
    transposed_times: Callable[[Tensor], Tensor]


@untraced
@torch.no_grad()
def low_rank(
    cost: Tensor,
    *,
    rank: int,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
    mask_rows: Tensor | None = None,
    mask_columns: Tensor | None = None,
) -> LowRankPlan:
    """Plan of rank at most `rank` for a given cost matrix: `low_rank_points` without the points.

    cost (b, n, m), masks (b, n), (b, m), True = present -> LowRankPlan. Memory: the cost, O(n·m), and the factors.
    Raises DataError and UsageError as `low_rank_points`.
    """
    positive(rank=rank, max_iterations=max_iterations, tolerance=tolerance)
    problem = Problem.of(cost, mask_rows, mask_columns)
    problem.both_or_neither()
    work = problem.cost.double()
    work = work / work.abs().amax((1, 2), keepdim=True).clamp_min(torch.finfo(work.dtype).tiny)
    costs = _Costs(lambda thin: work @ thin, lambda thin: work.mT @ thin)
    return _solve(costs, *problem.masses(), rank, max_iterations, tolerance, problem.result_dtype())


@untraced
@torch.no_grad()
def low_rank_points(
    rows: Tensor,
    columns: Tensor,
    *,
    rank: int,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
    mask_rows: Tensor | None = None,
    mask_columns: Tensor | None = None,
) -> LowRankPlan:
    """Plan of rank at most `rank` for the squared distances of points, in memory O(b·(n + m)·(rank + D)).

    Mirror descent on the factors Q (n, r), R (m, r) of Q·diag(r)·R' (Scetbon, Cuturi and Peyre 2021, ICML,
    algorithm 3 without entropy), with the inner masses fixed at 1/r: then each step is projected by two Sinkhorn
    iterations of r columns instead of Dykstra's, and for n = m = rank the set holds every permutation (Halmos et al.
    2025, ICML, use the same set). A squared distance is a product of D + 2 columns, so a step costs
    O((n + m)·r·D). The last factors are rounded into the polytope (Altschuler et al. 2017, algorithm 2): uniform
    marginals hold to rounding after any number of iterations, and `Plan.error` is the remaining error.
    Trap: the problem is not convex. This is a descent from one start, without a bound on the distance to the optimum.

    rows (b, n, D), columns (b, m, D), masks (b, n), (b, m), True = present; max_iterations: of the descent;
    tolerance: relative fall of the cost within ten iterations below which an item stops -> LowRankPlan. No gradient.
    Raises DataError when points are not finite or have different widths, a mask is invalid (`Problem`), or an item has
    tokens on one side only; UsageError when a setting is not positive
    """
    positive(rank=rank, max_iterations=max_iterations, tolerance=tolerance)
    problem = _checked(rows, columns, mask_rows, mask_columns)
    with torch.autocast(rows.device.type, enabled=False):
        return _solve(
            _squared_distances(rows, columns, problem),
            *problem.masses(),
            rank,
            max_iterations,
            tolerance,
            torch.promote_types(rows.dtype, torch.float32),
        )


def _checked(rows: Tensor, columns: Tensor, mask_rows: Tensor | None, mask_columns: Tensor | None) -> Problem:
    """The problem with checked masks, as in every solver; its cost is a placeholder with one column."""
    if rows.dim() != 3 or columns.dim() != 3 or rows.shape[::2] != columns.shape[::2] or 0 in rows.shape[1:]:
        what = f"points of shapes {tuple(rows.shape)} and {tuple(columns.shape)}"
        raise DataError(what, where="transport", hint="give (b, n, D) and (b, m, D) with at least one token each")
    masks = []
    for name, points, mask in (("rows", rows, mask_rows), ("columns", columns, mask_columns)):
        largest = points.detach().abs().amax(2, keepdim=True)  # (b, n, 1): NaN and infinity propagate
        side = Problem.of(largest, mask, None)
        masks.append(side.rows)
        if not bool((side.cost < torch.finfo(largest.dtype).max ** 0.5).all()):
            hint = "check for diverged features"
            raise DataError(f"the {name} are too large to square", where="transport, points", hint=hint)
    whole = bool(masks[0].all() & masks[1].all())
    problem = Problem(rows.new_zeros(len(rows), 1, 1), masks[0], masks[1], whole)
    problem.both_or_neither()
    return problem


def _squared_distances(rows: Tensor, columns: Tensor, problem: Problem) -> _Costs:
    """|x - y|² = [|x|², 1, -2x]·[1, |y|², y]', relative to the mean of the columns, at most 1."""
    x, y = (
        points.double().masked_fill(~present[..., None], 0.0)
        for points, present in ((rows, problem.rows), (columns, problem.columns))
    )
    count = problem.columns.sum(1)[:, None, None].clamp_min(1)
    centre = y.sum(1, keepdim=True) / count
    x, y = x - centre, y - centre
    x, y = x * problem.rows[..., None], y * problem.columns[..., None]
    norms = [points.square().sum(2, keepdim=True) for points in (x, y)]
    unit = 4 * torch.maximum(norms[0].amax((1, 2)), norms[1].amax((1, 2)))[:, None, None]
    unit = torch.where(unit > 0, unit, 1.0)
    left = torch.cat((norms[0], torch.ones_like(norms[0]), -2 * x), 2)
    right = torch.cat((torch.ones_like(norms[1]), norms[1], y), 2)
    return _Costs(
        lambda thin: left @ (right.mT @ thin) / unit,
        lambda thin: right @ (left.mT @ thin) / unit,
    )


def _solve(
    costs: _Costs, a: Tensor, b: Tensor, rank: int, limit: int, tolerance: float, result: torch.dtype
) -> LowRankPlan:
    """Alternate steps on the two factors: with one of them fixed the cost is linear, so no step increases it."""
    inner = (a.sum(1, keepdim=True) > 0).double().expand(-1, rank) / rank  # (b, r)
    rows, columns = _start(costs, a, b, inner)
    value = best = _value(costs, rows, columns)
    active, done = torch.ones_like(value, dtype=torch.bool), 0
    while done < limit and bool(active.any()):
        for _ in range(min(PATIENCE, limit - done)):
            stepped = _step(rows, costs.times(columns), a, inner)
            rows = torch.where(active[:, None, None], stepped, rows)
            stepped = _step(columns, costs.transposed_times(rows), b, inner)
            columns = torch.where(active[:, None, None], stepped, columns)
            done += 1
        value = _value(costs, rows, columns)
        active &= best - value > tolerance * best.abs()
        best = value
    rows, columns = _rounded(rows, a, inner), _rounded(columns, b, inner)
    reached = (rows @ columns.sum(1)[..., None])[..., 0] * rank
    error = torch.where(a > 0, reached / a.clamp_min(torch.finfo(a.dtype).tiny) - 1, 0.0).abs().amax(1)
    return LowRankPlan(rows.to(result), columns.to(result), done, error.to(result))


def _start(costs: _Costs, a: Tensor, b: Tensor, inner: Tensor) -> tuple[Tensor, Tensor]:
    """Initial classes around r evenly spaced columns: rows by cost to them, columns by mean cost to these rows."""
    present = b > 0
    positions = torch.arange(inner.shape[1], device=b.device) * present.sum(1, keepdim=True) // inner.shape[1]
    anchors = (~present).long().argsort(dim=1, stable=True).gather(1, positions)  # (b, r)
    chosen = torch.zeros(*b.shape, inner.shape[1], dtype=b.dtype, device=b.device).scatter_(1, anchors[:, None], 1.0)
    rows = _step(a[..., None] * inner[:, None], costs.times(chosen), a, inner)
    columns = _step(b[..., None] * inner[:, None], costs.transposed_times(rows), b, inner)
    return rows, columns


def _step(factor: Tensor, gradient: Tensor, mass: Tensor, inner: Tensor) -> Tensor:
    """Proximal step of a factor (b, n, r) down its gradient, projected: Sinkhorn on factor·exp(-gradient)."""
    slope = gradient - gradient.amin(2, keepdim=True)  # a constant per row has no effect after the projection
    slope = torch.where(mass[..., None] > 0, slope, 0.0)
    largest = slope.amax((1, 2), keepdim=True)
    kernel = factor * torch.exp(-STEP * slope / torch.where(largest > 0, largest, 1.0))
    tiny = torch.finfo(kernel.dtype).tiny
    v = torch.ones_like(inner)[..., None]
    for _ in range(ROUNDS):
        u = mass[..., None] / (kernel @ v).clamp_min(tiny)
        v = inner[..., None] / (kernel.mT @ u).clamp_min(tiny)
    u = mass[..., None] / (kernel @ v).clamp_min(tiny)
    return u * kernel * v.mT


def _rounded(factor: Tensor, mass: Tensor, inner: Tensor) -> Tensor:
    """The factor with exact marginals: the excess of rows and columns is removed and the deficit distributed."""
    tiny = torch.finfo(factor.dtype).tiny
    factor = factor * (mass / factor.sum(2).clamp_min(tiny)).clamp_max(1)[..., None]
    factor = factor * (inner / factor.sum(1).clamp_min(tiny)).clamp_max(1)[:, None]
    rows, columns = (mass - factor.sum(2)).clamp_min(0), (inner - factor.sum(1)).clamp_min(0)
    mass = columns.sum(1).clamp_min(tiny)[:, None, None]
    return factor + rows[..., None] * (columns[:, None] / mass)


def _value(costs: _Costs, rows: Tensor, columns: Tensor) -> Tensor:
    """Cost of the plan, (b,)."""
    return (rows * costs.times(columns)).sum((1, 2)) * rows.shape[2]
