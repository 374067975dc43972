"""Survival curves from the logits of a survival head: hazards per bin, or a constant rate within each bin.

Both heads return B numbers per patient, and S after each bin. They differ in the meaning of a logit, in S between the
bin edges and therefore in the likelihood (mcti/training/losses.py).

discrete    h_j = sigmoid(logit_j), the probability of the event in bin j (docs/model.md, section 6). Inside a bin the
            density is constant, so that S is linear; beyond the last edge S is constant (Kvamme and Borgan 2021,
            Lifetime Data Anal. 27:710-736, section 4, CDI).
continuous  a_j = softplus(logit_j), the increment of the cumulative hazard H in bin j. H is piecewise linear and
            rises, so S = exp(-H) falls at every month: the piecewise exponential model (Friedman 1982, Ann.
            Statist. 10:101-113; by networks: Bender et al. 2021, ECML PKDD). Beyond the last edge the rate of the last
            bin continues.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional


def hazard_and_survival(logits: Tensor, head: str) -> tuple[Tensor, Tensor]:
    """Probability of the event in each bin, given survival to its start, and S after the bin: (b, B) -> 2 x (b, B)."""
    if head == "continuous":
        added = functional.softplus(logits)
        return -torch.expm1(-added), (-added.cumsum(1)).exp()
    survival = (
        functional.logsigmoid(-logits).cumsum(1).exp()
    )  # product of (1 - hazard), accurate for a hazard close to one
    return logits.sigmoid(), survival


def hazard_of_rest(hazard: Tensor, share: Tensor, head: str) -> Tensor:
    """Probability of the event in the last `share` of each bin, given survival to its start; (b, B) each.

    discrete: S is linear inside a bin;  continuous: the rate is constant. A share of 1 is the hazard of the bin itself,
    0 is none.
    """
    if head == "continuous":
        rest = torch.where(share == 1, hazard, -torch.expm1(share * torch.log1p(-hazard)))
    else:
        rest = hazard * share / (1 - (1 - share) * hazard)
    return torch.where(share == 0, 0.0, rest)  # a hazard of 1 would give 0 / 0


def hazard_logits_of(hazard: Tensor, head: str) -> Tensor:
    """The logits of these hazards, the inverse of `hazard_and_survival`; any shape, values in (0, 1)."""
    if head == "continuous":
        added = -torch.log1p(-hazard)
        return added + torch.log(-torch.expm1(-added))  # the inverse of softplus
    return torch.logit(hazard)


def survival_at(survival: Tensor, edges: Sequence[float], months: Sequence[float], head: str) -> Tensor:
    """S at any months from S after each bin.

    survival (b, B); edges (B + 1) in months, the first is 0; months (h), none below 0 -> (b, h) in float64.
    """
    right, share = _positions(tuple(edges), tuple(months), head)
    heights = torch.cat([torch.ones(len(survival), 1, dtype=torch.float64), survival.double()], dim=1)
    if head == "discrete":
        return heights[:, right - 1] * (1 - share) + heights[:, right] * share
    # A float32 curve can reach 0, which has no logarithm; the smallest positive number replaces it.
    risen = -heights.clamp_min(torch.finfo(torch.float32).tiny).log()
    return (-(risen[:, right - 1] * (1 - share) + risen[:, right] * share)).exp()


@lru_cache
@torch.inference_mode(mode=False)  # the tensors are kept, and a later caller may record gradients
def _positions(edges: tuple[float, ...], months: tuple[float, ...], head: str) -> tuple[Tensor, Tensor]:
    """Right edge of the bin of each month, and the share of the bin before the month: (h,) each.

    Cached: a prediction reads the same months for every patient.
    """
    times = torch.tensor(edges, dtype=torch.float64)
    requested = torch.tensor(months, dtype=torch.float64).clamp_min(float(times[0]))
    if head == "discrete":
        requested = requested.clamp_max(float(times[-1]))
    right = torch.searchsorted(times, requested, right=True).clamp(1, len(times) - 1)
    share = (requested - times[right - 1]) / (times[right] - times[right - 1])  # above 1 beyond the last edge
    return right, share
