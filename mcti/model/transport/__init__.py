"""Couplings between token sets: one interface, solvers by name (docs/model.md, docs/decisions/0001-couplings.md)."""

from dataclasses import dataclass
from typing import get_args

from torch import Tensor

from mcti.errors import UsageError, did_you_mean
from mcti.model.transport.entropic import sinkhorn
from mcti.model.transport.exact import assignment
from mcti.model.transport.health import CouplingHealth, effective_rank, health, moved_share, plan_entropy
from mcti.model.transport.low_rank import LowRankPlan, low_rank, low_rank_points
from mcti.model.transport.plan import Plan
from mcti.model.transport.unbalanced import unbalanced
from mcti.params.architecture import Solver

__all__ = [
    "SOLVERS",
    "CouplingHealth",
    "LowRankPlan",
    "Plan",
    "SolverSettings",
    "assignment",
    "couple",
    "effective_rank",
    "health",
    "low_rank",
    "low_rank_points",
    "moved_share",
    "plan_entropy",
    "sinkhorn",
    "unbalanced",
]

SOLVERS: tuple[str, ...] = get_args(Solver)


@dataclass(frozen=True)
class SolverSettings:
    """Settings of the solvers; each solver uses those in its row.

    assignment  exact, one to one           none
    sinkhorn    entropic, fixed marginals   entropy, max_iterations, tolerance, gradient
    unbalanced  entropic, soft marginals    the same, marginal and measure
    low_rank    two thin factors            rank, max_iterations, tolerance; for points: `low_rank_points`
    """

    entropy: float = 0.1
    marginal: float = 0.5
    max_iterations: int = 1000
    tolerance: float = 1e-6
    measure: str = "entropy"
    rank: int = 16
    gradient: bool = False


def couple(
    cost: Tensor,
    solver: str,
    settings: SolverSettings | None = None,
    *,
    mask_rows: Tensor | None = None,
    mask_columns: Tensor | None = None,
) -> Plan:
    """Compute a coupling with the solver of this name: cost (b, n, m), masks (b, n), (b, m), True = present -> Plan.

    Raises UsageError when the solver is unknown or a gradient is requested of a plan that has none; other errors as
    in the solver
    """
    chosen = settings or SolverSettings()
    if solver not in SOLVERS:
        raise UsageError(f"there is no solver {solver!r}", where="transport", hint=did_you_mean(solver, SOLVERS))
    if chosen.gradient and solver not in ("sinkhorn", "unbalanced"):
        raise UsageError(
            f"the plan of solver {solver!r} has no gradient",
            where="transport",
            hint="use sinkhorn or unbalanced, or no gradient through the plan",
        )
    masks = {"mask_rows": mask_rows, "mask_columns": mask_columns}
    if solver == "assignment":
        return assignment(cost, **masks)
    if solver == "low_rank":
        rank, iterations = chosen.rank, chosen.max_iterations
        return low_rank(cost, rank=rank, max_iterations=iterations, tolerance=chosen.tolerance, **masks)
    if solver == "sinkhorn":
        return sinkhorn(
            cost,
            entropy=chosen.entropy,
            max_iterations=chosen.max_iterations,
            tolerance=chosen.tolerance,
            gradient=chosen.gradient,
            **masks,
        )
    return unbalanced(
        cost,
        entropy=chosen.entropy,
        marginal=chosen.marginal,
        max_iterations=chosen.max_iterations,
        tolerance=chosen.tolerance,
        measure=chosen.measure,
        gradient=chosen.gradient,
        **masks,
    )
