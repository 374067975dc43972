"""Couplings between token sets, one interface, solvers by name (docs/model.md, docs/decisions/0001-couplings.md)."""

from typing import Any

from torch import Tensor

from mcti.errors import UsageError, did_you_mean
from mcti.model.transport.entropic import sinkhorn
from mcti.model.transport.exact import assignment
from mcti.model.transport.health import CouplingHealth, effective_rank, health, moved_share, plan_entropy
from mcti.model.transport.low_rank import LowRankPlan, low_rank, low_rank_points
from mcti.model.transport.oracle import pot
from mcti.model.transport.plan import Plan
from mcti.model.transport.unbalanced import unbalanced

__all__ = [
    "SOLVERS",
    "CouplingHealth",
    "LowRankPlan",
    "Plan",
    "assignment",
    "couple",
    "effective_rank",
    "health",
    "low_rank",
    "low_rank_points",
    "moved_share",
    "plan_entropy",
    "pot",
    "sinkhorn",
    "unbalanced",
]

SOLVERS = ("assignment", "sinkhorn", "unbalanced", "low_rank", "pot")


def couple(
    cost: Tensor,
    solver: str,
    *,
    entropy: float = 0.1,
    marginal: float = 0.5,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
    measure: str = "entropy",
    rank: int = 16,
    mask_rows: Tensor | None = None,
    mask_columns: Tensor | None = None,
    gradient: bool = False,
) -> Plan:
    """Couple by the solver of this name; each takes of the settings what it knows.

    assignment  exact, one to one           (no setting)
    sinkhorn    entropic, fixed marginals   entropy, max_iterations, tolerance, gradient
    unbalanced  entropic, soft marginals    the same, marginal and measure
    low_rank    thin factors, a descent     rank, max_iterations, tolerance; from points: `low_rank_points`
    pot         exact, by ot.emd            (no setting): oracle, and fallback for unequal numbers of tokens

    cost (b, n, m), masks (b, n), (b, m), True = present -> Plan.
    Raises UsageError for an unknown solver, or a gradient through a plan that has none; else as the solver.
    """
    if solver not in SOLVERS:
        raise UsageError(f"there is no solver {solver!r}", where="transport", hint=did_you_mean(solver, SOLVERS))
    if gradient and solver not in ("sinkhorn", "unbalanced"):
        raise UsageError(
            f"no gradient passes the plan of solver {solver!r}",
            where="transport",
            hint="take sinkhorn or unbalanced, or no gradient through the plan",
        )
    settings: dict[str, Any] = {"mask_rows": mask_rows, "mask_columns": mask_columns}
    if solver == "assignment":
        return assignment(cost, **settings)
    if solver == "pot":
        return pot(cost, **settings)
    settings |= {"max_iterations": max_iterations, "tolerance": tolerance}
    if solver == "low_rank":
        return low_rank(cost, rank=rank, **settings)
    settings |= {"entropy": entropy, "gradient": gradient}
    if solver == "sinkhorn":
        return sinkhorn(cost, **settings)
    return unbalanced(cost, marginal=marginal, measure=measure, **settings)
