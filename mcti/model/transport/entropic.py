"""Entropic couplings with fixed marginals: batched Sinkhorn in stabilised scalings (first version: log domain)."""

import torch
from torch import Tensor

from mcti.model.transport.plan import Plan, checked, positive, present, shaped


def sinkhorn(
    cost: Tensor,
    *,
    entropy: float,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
    mask_rows: Tensor | None = None,
    mask_columns: Tensor | None = None,
    gradient: bool = False,
) -> Plan:
    """Balanced entropic plan, uniform marginals over the present tokens."""
    shaped(cost)
    positive(entropy=entropy, tolerance=tolerance, max_iterations=max_iterations)
    rows, columns = present(cost, mask_rows, mask_columns)
    cost = checked(cost, rows, columns)
    with torch.set_grad_enabled(gradient and torch.is_grad_enabled()):
        kernel = (-cost.double() / entropy).masked_fill(~(rows[:, :, None] & columns[:, None, :]), -torch.inf)
        a = -rows.sum(1, keepdim=True).clamp_min(1).double().log()
        b = -columns.sum(1, keepdim=True).clamp_min(1).double().log()
        g = torch.zeros_like(columns, dtype=torch.float64)
        for iteration in range(1, max_iterations + 1):
            f = torch.where(rows, a - torch.logsumexp(kernel + g[:, None], 2), 0.0)
            logits = kernel + f[:, :, None] + g[:, None]
            g = torch.where(columns, g + b - torch.logsumexp(logits, 1), 0.0)
            plan = (kernel + f[:, :, None] + g[:, None]).exp()
            error = ((plan.sum(2) / a.exp() - 1).abs() * rows).amax(1)
            if bool((error < tolerance).all()):
                break
    return Plan(plan.to(cost.dtype), iteration, error.detach().to(cost.dtype))
