"""Control plans without information, for the ablations of the study."""

import torch
from torch import Tensor

from mcti.model.transport.plan import Plan


def uniform(rows: Tensor, columns: Tensor) -> Plan:
    """Equal mass between all present rows and columns: rows (b, n), columns (b, m) bool -> Plan, mass 1."""
    a, b = (mask / mask.sum(1, keepdim=True).clamp_min(1).double() for mask in (rows, columns))
    coupling = (a[:, :, None] * b[:, None, :]).float()
    return Plan(coupling, 0, torch.zeros(len(rows), device=rows.device))


def shuffled(plan: Plan, rows: Tensor) -> Plan:
    """The plan with its present rows permuted: the set of masses is kept, their assignment to rows is not.

    The order is pseudorandom, a function of n alone: training and inference use the same one, and a patient's
    plan does not depend on the batch. rows (b, n) bool; absent rows keep their position.
    """
    source = _permute(rows)
    coupling = plan.coupling.gather(1, source[..., None].expand_as(plan.coupling))
    permutation = None if plan.permutation is None else plan.permutation.gather(1, source)
    return Plan(coupling, plan.iterations, plan.error, permutation)


def _permute(rows: Tensor) -> Tensor:
    """(b, n) source row of each row's mass."""
    lots = torch.rand(rows.shape[1], generator=torch.Generator().manual_seed(rows.shape[1])).to(rows.device)
    drawn = (lots + (~rows).float()).argsort(1)  # present rows in random order, then the absent rows
    positions = (~rows).float().argsort(dim=1, stable=True)  # present rows in their own order
    drawn[~rows.gather(1, positions)] = positions[~rows.gather(1, positions)]
    return torch.empty_like(drawn).scatter_(1, positions, drawn)
