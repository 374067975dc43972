"""Exact couplings: assignment between equal numbers of tokens with equal mass."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from mcti.errors import DataError
from mcti.model.transport.plan import Plan, Problem, untraced


@untraced
@torch.no_grad()
def assignment(cost: Tensor, mask_rows: Tensor | None = None, mask_columns: Tensor | None = None) -> Plan:
    """Couple present rows and columns one to one with minimal total cost.

    With n equal masses on either side an optimal plan is a permutation divided by n (Birkhoff), so the linear program
    is an assignment problem; solved by shortest augmenting paths (Jonker and Volgenant 1987, lapx) in float64.
    The solver breaks ties: with equal costs another permutation may have the same total.

    cost (b, n, m), masks (b, n) and (b, m), True = present -> Plan with coupling (b, n, m) in the cost's dtype and
    permutation (b, n). No gradient.
    Raises DataError when a cost is not finite, or an item has different numbers of present rows and columns
    """
    problem = Problem.of(cost, mask_rows, mask_columns)
    _check_counts(problem)
    permutation = _solve(problem)
    coupling = torch.zeros(cost.shape, dtype=problem.result_dtype(), device=cost.device)
    if problem.whole:
        coupling.scatter_(2, permutation[..., None], 1 / cost.shape[1])
    else:
        mass = problem.masses()[0].to(coupling.dtype)
        coupling.scatter_(2, permutation.clamp_min(0)[..., None], mass[..., None])
    return Plan(coupling, 0, coupling.new_zeros(len(cost)), permutation)


def _check_counts(problem: Problem) -> None:
    rows, columns = problem.rows, problem.columns
    if problem.whole and rows.shape == columns.shape:
        return
    uneven = (rows.sum(1) != columns.sum(1)).nonzero()
    if len(uneven):
        item = int(uneven[0])
        raise DataError(
            f"{int(rows[item].sum())} present rows cannot be assigned one to one to {int(columns[item].sum())} columns",
            where=f"transport, batch item {item}",
            hint="mask equal numbers of rows and columns, or use solver sinkhorn, which couples any numbers of tokens",
        )


def _solve(problem: Problem) -> Tensor:
    """Column of each row, (b, n), -1 where the row is absent; items with the same number of tokens are solved together.

    Absent tokens are removed, not made expensive: the solver receives the matrix of the unpadded item and breaks ties
    in the same way.
    """
    table = _in_range(problem.cost).cpu()
    if problem.whole:
        return _columns(table).to(problem.cost.device)
    rows, columns = problem.rows.cpu(), problem.columns.cpu()
    counts = rows.sum(1)
    permutation = torch.full(rows.shape, -1)
    for count in sorted(set(counts.tolist()) - {0}):
        items = (counts == count).nonzero()  # (k, 1)
        row_index, column_index = (mask[items[:, 0]].nonzero()[:, 1].view(-1, count) for mask in (rows, columns))
        matched = _columns(table[items[:, :, None], row_index[:, :, None], column_index[:, None, :]])
        permutation[items, row_index] = column_index.gather(1, matched)
    return permutation.to(problem.cost.device)


def _columns(table: Tensor) -> Tensor:
    """Column of each row (b, n) of square costs (b, n, n), all present, solved in parallel threads."""
    from lap import lapjvr_batch

    def solved(part: Tensor) -> Tensor:
        """The columns of some items, in the calling thread."""
        return torch.from_numpy(np.stack(lapjvr_batch(part.numpy(), return_cost=False, n_threads=1)[1]))

    if not len(table):
        return torch.empty(table.shape[:2], dtype=torch.int64)
    parts = table.contiguous().chunk(torch.get_num_threads())
    if len(parts) == 1:
        return solved(table.contiguous())
    # A pool per call: that of lapx is permanent, and a forked data loader would wait for it forever.
    with ThreadPoolExecutor(len(parts)) as pool:
        return torch.cat(list(pool.map(solved, parts)))


def _in_range(cost: Tensor) -> Tensor:
    """The cost (b, n, m) for the solver: float32 unchanged (its potentials are float64), otherwise float64 near 1.

    Scaled by a power of two, which changes no digit: sums of the largest float64 would overflow.
    """
    if cost.dtype != torch.float64:
        return cost.float()
    exponent = torch.frexp(cost.abs().amax((1, 2), keepdim=True))[1]
    return torch.ldexp(cost, -exponent) if bool((exponent.abs() > 500).any()) else cost
