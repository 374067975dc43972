"""What training minimises: discrete-time survival, subtype and instance terms (docs/model.md section 6).

Every loss comes as one term a patient; the mean is taken over the patients of the whole step. So a step that is cut
into parts (accumulation) or spread over processes adds up to the very same loss.
"""

import torch
from torch import Tensor
from torch.nn import functional


def discrete_nll(logits: Tensor, bins: Tensor, events: Tensor, alpha: float) -> Tensor:
    """Censored negative log-likelihood of discrete hazards, one term a patient; lower is better.

    With h_j = sigmoid(logit_j), the hazard of bin j, and S_j = prod_{l<=j} (1 - h_l):
      uncensored in bin k   u = -log S_{k-1} - log h_k
      censored in bin k     c = -log S_k
      term = (1 - alpha) (u + c) + alpha u = u + (1 - alpha) c
    so alpha = 0 is the likelihood and alpha = 1 forgets the censored patients. (Zadeh and Schmid 2021, IEEE TPAMI
    43:3126-3137, equations 3-6.) Works on logits: log h and log(1 - h) stay finite where sigmoid rounds to 0 or 1.

    logits (b, B), bins (b,) int64, events (b,) bool -> (b,)
    """
    alive = functional.logsigmoid(-logits)  # log(1 - h), (b, B)
    survived = torch.cat([torch.zeros_like(alive[:, :1]), alive.cumsum(dim=1)], dim=1)  # log S_{j-1}, (b, B + 1)
    at = bins[:, None]
    died = -(survived.gather(1, at) + functional.logsigmoid(logits).gather(1, at))[:, 0]
    lived = -survived.gather(1, at + 1)[:, 0]
    return torch.where(events, died, (1 - alpha) * lived)


def subtype_terms(logits: Tensor, subtypes: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of the subtype, one weighted term a patient: logits (b, C), subtypes (b,), weights (C,) -> (b,)."""
    return functional.cross_entropy(logits, subtypes, weight=weights, reduction="none")


def class_weights(subtypes: Tensor, classes: int) -> Tensor:
    """Weights (C,) that give every class of a training part the same say: n / (C n_c), mean 1 over its patients."""
    counts = torch.bincount(subtypes, minlength=classes).clamp(min=1).float()
    return len(subtypes) / (classes * counts)


def cox_terms(risk: Tensor, times: Tensor, events: Tensor, ties: str = "efron") -> Tensor:
    """Negative log partial likelihood of Cox's model, one term a patient (0 for a censored one); lower is better.

    Breslow: each event i adds log sum_{times_j >= times_i} exp(risk_j) - risk_i.  Efron: of the d events at one
    time, the l-th (l = 0 … d-1) sees the sum less l/d of the tied events' own. (Efron 1977, JASA 72:557-565.)
    risk, times, events (b,) -> (b,). The sum, not the mean, is the likelihood; equal times are ties.
    """
    at_risk = times[None, :] >= times[:, None]
    tied = (times[None, :] == times[:, None]) & events[None, :] & events[:, None]
    floor = risk.max().detach()
    weights = (risk - floor).exp()
    total = (at_risk * weights).sum(dim=1)
    if ties == "efron":
        place = tied.tril(-1).sum(dim=1) / tied.sum(dim=1).clamp(min=1)  # l / d, by position among the tied
        total = total - place * (tied * weights).sum(dim=1)
    # Where there is no event the sum may cancel to 0; its logarithm must not reach the gradient.
    safe = torch.where(events, total, torch.ones_like(total))
    return torch.where(events, safe.log() + floor - risk, torch.zeros_like(risk))


def ranking_terms(risk: Tensor, times: Tensor, events: Tensor) -> Tensor:
    """A smooth surrogate of 1 - C, one term a patient: log2(1 + exp(risk_j - risk_i)) averaged over the patients j
    who outlive the event of i (Raykar et al. 2007, NIPS 20, equation 7); 1 where risks are equal, lower is better.

    risk, times, events (b,) -> (b,); 0 for a patient that orders no pair.
    """
    ordered = events[:, None] & ((times[None, :] > times[:, None]) | ((times[None, :] == times[:, None]) & ~events))
    pairs = functional.softplus(risk[None, :] - risk[:, None]) / torch.log(torch.tensor(2.0, dtype=risk.dtype))
    return (ordered * pairs).sum(dim=1) / ordered.sum(dim=1).clamp(min=1)
