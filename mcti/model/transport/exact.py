"""Exact couplings: assignment between equally many tokens of equal mass."""

import torch
from torch import Tensor

from mcti.errors import DataError
from mcti.model.transport.plan import Plan, checked, present, shaped


@torch.no_grad()
def assignment(cost: Tensor, mask_rows: Tensor | None = None, mask_columns: Tensor | None = None) -> Plan:
    """Couple present rows and columns one to one at the least total cost.

    With n equal masses on either side an optimal plan is a permutation divided by n (Birkhoff), so the linear program
    is an assignment problem; solved by shortest augmenting paths (Jonker and Volgenant 1987, lapx) in float64.
    Ties are broken by the solver: equal costs may give another permutation of the same total.

    cost (b, n, m), masks (b, n) and (b, m), True = present -> Plan with coupling (b, n, m) in the cost's dtype and
    permutation (b, n). No gradient.
    Raises DataError on a cost that is not finite and where an item has not as many present rows as columns.
    """
    shaped(cost)
    rows, columns = present(cost, mask_rows, mask_columns)
    _check_counts(rows, columns)
    permutation = _solve(checked(cost, rows, columns), rows, columns)
    counts = rows.sum(1)
    coupling = cost.new_zeros(cost.shape)
    mass = (rows / counts.clamp_min(1)[:, None]).to(cost.dtype)
    coupling.scatter_(2, permutation.clamp_min(0)[..., None], mass[..., None])
    return Plan(coupling, 0, cost.new_zeros(cost.shape[0]), permutation)


def _check_counts(rows: Tensor, columns: Tensor) -> None:
    uneven = (rows.sum(1) != columns.sum(1)).nonzero()
    if len(uneven):
        item = int(uneven[0])
        raise DataError(
            f"{int(rows[item].sum())} present rows cannot be assigned one to one to {int(columns[item].sum())} columns",
            where=f"transport, batch item {item}",
            mend="mask equally many, or take solver sinkhorn, which couples any two numbers of tokens",
        )


def _solve(cost: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Column of each row, (b, n), -1 where the row is absent."""
    from lap import lapjvr_batch

    table = cost.detach().to("cpu", torch.float64).contiguous().numpy()
    threads = torch.get_num_threads()
    if bool(rows.all() & columns.all()):
        found = lapjvr_batch(table, return_cost=False, n_threads=threads)[1]
        return torch.stack([torch.from_numpy(one) for one in found]).to(cost.device)
    permutation = torch.full(rows.shape, -1, dtype=torch.int64)
    for item, (here, there) in enumerate(zip(rows.cpu(), columns.cpu(), strict=True)):
        index = there.nonzero()[:, 0]
        small = table[item][here.numpy()][:, there.numpy()]
        permutation[item, here] = index[torch.from_numpy(lapjvr_batch(small[None], return_cost=False)[1][0])]
    return permutation.to(cost.device)
