"""Entropic couplings whose marginals may lose mass: batched generalised Sinkhorn (first version: log domain)."""

import torch
from torch import Tensor

from mcti.model.transport.plan import Plan, checked, positive, present, shaped


def unbalanced(
    cost: Tensor,
    *,
    entropy: float,
    marginal: float,
    max_iterations: int = 1000,
    tolerance: float = 1e-6,
    measure: str = "entropy",
    mask_rows: Tensor | None = None,
    mask_columns: Tensor | None = None,
    gradient: bool = False,
) -> Plan:
    """Entropic plan with marginals softened by a KL weight."""
    shaped(cost)
    positive(entropy=entropy, marginal=marginal, tolerance=tolerance, max_iterations=max_iterations)
    rows, columns = present(cost, mask_rows, mask_columns)
    cost = checked(cost, rows, columns)
    power = marginal / (marginal + entropy)
    with torch.set_grad_enabled(gradient and torch.is_grad_enabled()):
        kernel = (-cost.double() / entropy).masked_fill(~(rows[:, :, None] & columns[:, None, :]), -torch.inf)
        a = -rows.sum(1, keepdim=True).clamp_min(1).double().log()
        b = -columns.sum(1, keepdim=True).clamp_min(1).double().log()
        if measure == "kl":
            kernel = kernel + a[:, None] + b[:, None]
        x, y = torch.zeros_like(rows, dtype=torch.float64), torch.zeros_like(columns, dtype=torch.float64)
        for iteration in range(1, max_iterations + 1):
            before = x, y
            x = torch.where(rows, power * (a - torch.logsumexp(kernel + y[:, None], 2)), 0.0)
            y = torch.where(columns, power * (b - torch.logsumexp(kernel + x[:, :, None], 1)), 0.0)
            error = torch.maximum((x - before[0]).abs().amax(1), (y - before[1]).abs().amax(1))
            if bool((error < tolerance).all()):
                break
        plan = (kernel + x[:, :, None] + y[:, None]).exp()
    return Plan(plan.to(cost.dtype), iteration, error.detach().to(cost.dtype))
