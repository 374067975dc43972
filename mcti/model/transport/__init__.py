"""Couplings between token sets, one interface, solvers by name (docs/model.md, docs/decisions/0001-couplings.md)."""

from typing import Any

from torch import Tensor

from mcti.errors import UsageError, did_you_mean
from mcti.model.transport.entropic import sinkhorn
from mcti.model.transport.exact import assignment
from mcti.model.transport.health import CouplingHealth, effective_rank, health, moved_share, plan_entropy
from mcti.model.transport.oracle import pot
from mcti.model.transport.plan import Plan
from mcti.model.transport.unbalanced import unbalanced

__all__ = [
    "SOLVERS",
    "CouplingHealth",
    "Plan",
    "assignment",
    "couple",
    "effective_rank",
    "health",
    "moved_share",
    "plan_entropy",
    "pot",
    "sinkhorn",
    "unbalanced",
]

SOLVERS = ("assignment", "sinkhorn", "unbalanced", "pot")


def couple(
    cost: Tensor,
    solver: str,
    *,
    entropy: float = 0.1,
    marginal: float = 0.5,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
    measure: str = "entropy",
    mask_rows: Tensor | None = None,
    mask_columns: Tensor | None = None,
    gradient: bool = False,
) -> Plan:
    """Couple by the solver of this name; each takes of the settings what it knows.

    assignment  exact, one to one           (no setting)
    sinkhorn    entropic, fixed marginals   entropy, max_iterations, tolerance, gradient
    unbalanced  entropic, soft marginals    the same, marginal and measure
    pot         exact, by ot.emd            (no setting): oracle, and fallback for unequal numbers of tokens

    cost (b, n, m), masks (b, n), (b, m), True = present -> Plan.
    Raises UsageError for an unknown solver, or a gradient through an exact plan, which has none; else as the solver.
    """
    if solver not in SOLVERS:
        raise UsageError(f"there is no solver {solver!r}", where="transport", mend=did_you_mean(solver, SOLVERS))
    if gradient and solver in ("assignment", "pot"):
        raise UsageError(
            f"no gradient passes the plan of solver {solver!r}: it is constant between jumps",
            where="transport",
            mend="take sinkhorn or unbalanced, or no gradient through the plan",
        )
    settings: dict[str, Any] = {"mask_rows": mask_rows, "mask_columns": mask_columns}
    if solver == "assignment":
        return assignment(cost, **settings)
    if solver == "pot":
        return pot(cost, **settings)
    settings |= {"entropy": entropy, "max_iterations": max_iterations, "tolerance": tolerance, "gradient": gradient}
    if solver == "sinkhorn":
        return sinkhorn(cost, **settings)
    return unbalanced(cost, marginal=marginal, measure=measure, **settings)
