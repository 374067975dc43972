"""Oracle of the transport tests: POT's solvers, one item at a time on the CPU in float64."""

import warnings

import numpy as np
import torch
from torch import Tensor

from mcti.errors import UsageError, did_you_mean
from mcti.model.transport.plan import Plan, Problem, positive, untraced

PROBLEMS = ("exact", "sinkhorn", "unbalanced")
ORDINARY = 60  # binary orders of magnitude of the largest cost within which POT gets the costs as they are
EXACT_ITERATIONS = 10**7  # of the network simplex: far above what n = 2,048 takes


@untraced
@torch.no_grad()
def pot(  # noqa: PLR0913  (the parameters of the transport problem)
    cost: Tensor,
    *,
    problem: str = "exact",
    entropy: float = 0.1,
    marginal: float = 0.5,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
    measure: str = "entropy",
    mask_rows: Tensor | None = None,
    mask_columns: Tensor | None = None,
) -> Plan:
    """Plan of POT: "exact" (ot.emd, any two numbers of tokens), "sinkhorn" (log domain) or "unbalanced".

    Arguments as those of `sinkhorn` and `unbalanced`; tolerance is POT's own stop threshold. No gradient.
    `Plan.error` is the largest relative error of a row, for "unbalanced" POT's last change.
    Raises DataError for a bad cost or mask or an item with tokens on one side alone, UsageError for an unknown problem
    or a bad setting.
    """
    positive(entropy=entropy, marginal=marginal, tolerance=tolerance, max_iterations=max_iterations)
    if problem not in PROBLEMS:
        raise UsageError(f"POT has no problem {problem!r}", where="transport", hint=did_you_mean(problem, PROBLEMS))
    checked = Problem.of(cost, mask_rows, mask_columns)
    if problem != "unbalanced":
        checked.both_or_neither()
    coupling = torch.zeros(cost.shape, dtype=torch.float64)
    error, iterations = torch.zeros(len(cost), dtype=torch.float64), 0
    for item, (rows, columns) in enumerate(zip(checked.rows.cpu(), checked.columns.cpu(), strict=True)):
        if not bool(rows.any() & columns.any()):
            continue
        index = torch.meshgrid(rows.nonzero()[:, 0], columns.nonzero()[:, 0], indexing="ij")
        small = checked.cost[item].cpu().double()[index]
        plan, used, last = _one(small, problem, entropy, marginal, max_iterations, tolerance, measure)
        coupling[item][index] = plan
        error[item] = (plan.sum(1) * len(plan) - 1).abs().max() if last is None else last
        iterations = max(iterations, used)
    return Plan(coupling.to(cost.device, checked.result_dtype()), iterations, error.to(cost.device))


def _one(
    cost: Tensor, problem: str, entropy: float, marginal: float, max_iterations: int, tolerance: float, measure: str
) -> tuple[Tensor, int, float | None]:
    """Plan (n, m) of one item, iterations, and POT's last change where the marginals are free."""
    import ot

    table = cost.numpy()
    stop = {"stopThr": tolerance, "numItermax": max_iterations, "log": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged: the plan's error reports it
        if problem == "exact":
            masses = (torch.full((size,), 1 / size, dtype=torch.float64).numpy() for size in cost.shape)
            # From zero up: ot.emd 0.9.7 moves nothing where a lone cost is negative; a constant changes no plan.
            table = _in_range(table)
            return torch.from_numpy(ot.emd(*masses, table - table.min(), numItermax=EXACT_ITERATIONS)), 0, None
        if problem == "sinkhorn":
            plan, log = ot.sinkhorn([], [], table, entropy, method="sinkhorn_log", **stop)
            return torch.from_numpy(plan), int(log["niter"]) + 1, None
        plan, log = ot.sinkhorn_unbalanced([], [], table, entropy, marginal, reg_type=measure, **stop)
        return torch.from_numpy(plan), len(log["err"]), float(log["err"][-1])


def _in_range(table: np.ndarray) -> np.ndarray:
    """The costs, near 1 where they were far from it: with its fixed thresholds ot.emd treats 1e-300 as equal to 0."""
    exponent = int(np.frexp(np.abs(table).max())[1])
    return table if abs(exponent) <= ORDINARY else np.ldexp(table, -exponent)
