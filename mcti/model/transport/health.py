"""Health of a coupling: stability under rounding noise, sharpness, and diversity of its tokens."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mcti.model.transport.plan import Plan

NOISE = 1e-6  # relative to the tokens' root mean square: about the rounding of float32 after a few layers


@dataclass(frozen=True)
class CouplingHealth:
    """One number for each item of the batch, (b,) float64 on the CPU.

    moved         share of the mass of the rows that the noise moves to other columns, 0-1; lower is better. Near 1
                  the plan is an arbitrary selection between near-identical tokens and has no information
    entropy       mean entropy of the distribution of a row over the columns, divided by log m: 0 one column per row,
                  1 uniform
    rank_rows     effective rank of the row tokens, 1 to min(n, D); 1 = all identical
    rank_columns  effective rank of the column tokens
    """

    moved: Tensor
    entropy: Tensor
    rank_rows: Tensor
    rank_columns: Tensor


@torch.no_grad()
def health(
    row_tokens: Tensor,
    column_tokens: Tensor,
    coupling: Callable[[Tensor, Tensor], Plan],
    *,
    noise: float = NOISE,
    seed: int = 0,
    mask_rows: Tensor | None = None,
    mask_columns: Tensor | None = None,
) -> CouplingHealth:
    """Couple the tokens twice, once with noise on both, and compare (docs/model.md, coupling health).

    row_tokens (b, n, D), column_tokens (b, m, D); `coupling` makes the plan from them, cost and masks included, as the
    model does; masks (b, n), (b, m), True = present, select the tokens of the effective rank. The noise is normal,
    drawn with `seed` on the CPU and scaled by `noise` times the root mean square of each item's tokens.
    """
    generator = torch.Generator().manual_seed(seed)
    plan = coupling(row_tokens, column_tokens).coupling.double().cpu()
    noisy = (_noisy(tokens, noise, generator) for tokens in (row_tokens, column_tokens))
    other = coupling(*noisy).coupling.double().cpu()
    return CouplingHealth(
        moved=moved_share(plan, other),
        entropy=plan_entropy(plan),
        rank_rows=effective_rank(row_tokens, mask_rows),
        rank_columns=effective_rank(column_tokens, mask_columns),
    )


def _noisy(tokens: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    normal = torch.randn(tokens.shape, generator=generator).to(tokens.device, tokens.dtype)
    return tokens + noise * tokens.pow(2).mean((1, 2), keepdim=True).sqrt() * normal


def moved_share(plan: Tensor, other: Tensor) -> Tensor:
    """Share of the mass (b,) that two plans (b, n, m) send to different columns, row by row.

    Half the sum of |plan - other| over the mass: between two permutations the share of the rows that differ.
    """
    mass = torch.maximum(plan.sum((1, 2)), other.sum((1, 2)))
    return torch.where(mass > 0, (plan - other).abs().sum((1, 2)) / (2 * mass), 0.0)


def plan_entropy(plan: Tensor) -> Tensor:
    """Mean entropy (b,) of the distribution of a row over m columns, weighted by mass, divided by log m; 0 if m = 1."""
    mass = plan.sum((1, 2))
    rows = plan.sum(2)
    spread = torch.special.entr(plan).sum((1, 2)) - torch.special.entr(rows).sum(1)
    columns = plan.shape[2]
    if columns == 1:
        return torch.zeros_like(mass)
    largest = torch.log(torch.tensor(float(columns), dtype=plan.dtype))
    return torch.where(mass > 0, spread / (mass * largest), 0.0).clamp(0, 1)


def effective_rank(tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    """Effective rank (b,) of tokens (b, n, D): exp of the entropy of their singular values' shares.

    Roy and Vetterli 2007, EUSIPCO, 606-610. Not centred: identical tokens have rank 1.
    An item without any token, or of zeros only, has rank 0.
    """
    tokens = tokens.detach().double().cpu()
    if mask is not None:
        tokens = tokens.masked_fill(~mask.cpu()[..., None], 0.0)
    # Scaled first: squares of huge tokens overflow.
    largest = tokens.abs().amax((1, 2), keepdim=True)
    values = torch.linalg.svdvals(tokens / torch.where(largest > 0, largest, 1.0))
    total = values.sum(1, keepdim=True)
    shares = values / torch.where(total > 0, total, 1.0)
    return torch.where(total[:, 0] > 0, torch.special.entr(shares).sum(1).exp(), 0.0)
