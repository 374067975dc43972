"""Couplings between token sets, one interface: solvers by name (docs/model.md, docs/decisions/0001-couplings.md)."""

from torch import Tensor

from mcti.errors import UsageError, did_you_mean
from mcti.model.transport.entropic import sinkhorn
from mcti.model.transport.exact import assignment
from mcti.model.transport.plan import Plan
from mcti.model.transport.unbalanced import unbalanced

__all__ = ["SOLVERS", "Plan", "assignment", "couple", "sinkhorn", "unbalanced"]

SOLVERS = ("assignment", "sinkhorn", "unbalanced")


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
    """Couple by the solver of this name."""
    if solver == "assignment":
        return assignment(cost, mask_rows, mask_columns)
    if solver == "sinkhorn":
        return sinkhorn(
            cost,
            entropy=entropy,
            max_iterations=max_iterations,
            tolerance=tolerance,
            mask_rows=mask_rows,
            mask_columns=mask_columns,
            gradient=gradient,
        )
    if solver == "unbalanced":
        return unbalanced(
            cost,
            entropy=entropy,
            marginal=marginal,
            max_iterations=max_iterations,
            tolerance=tolerance,
            measure=measure,
            mask_rows=mask_rows,
            mask_columns=mask_columns,
            gradient=gradient,
        )
    raise UsageError(f"there is no solver {solver!r}", where="transport", mend=did_you_mean(solver, SOLVERS))
