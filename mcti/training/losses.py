"""Losses of the training: survival, subtype and instance terms (docs/model.md section 6).

Each loss has one term per patient, and the mean is over the patients of the whole step. Therefore a step that is split
into parts (accumulation) or over processes has the same loss.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

_PARTLY = 1 - 1e-6
"""Largest share of a bin before the entry; a whole bin has the logarithm of 1 - h from the logits."""


def discrete_nll(
    logits: Tensor, bins: Tensor, events: Tensor, alpha: float, before_entry: Tensor | None = None
) -> Tensor:
    """Censored negative log-likelihood of discrete hazards, one term per patient; lower is better.

    With h_j = sigmoid(logit_j), the hazard of bin j, and S_j = prod_{l<=j} (1 - h_l):
      uncensored in bin k   u = -log S_{k-1} - log h_k
      censored in bin k     c = -log S_k
      term = (1 - alpha) (u + c) + alpha u = u + (1 - alpha) c
    so alpha = 0 is the likelihood and alpha = 1 ignores the censored patients. (Zadeh and Schmid 2021, IEEE TPAMI
    43:3126-3137, equations 3-6.) Works on logits: log h and log(1 - h) stay finite where sigmoid rounds to 0 or 1.

    Left truncation: the likelihood is conditional on survival to the entry, so log S(entry) is added to u and c. Inside
    a bin S is linear (mcti/model/hazards.py): S(entry) = prod_j (1 - f_j h_j), f_j the share of bin j before the entry.
    An event in the bin of the entry then has the probability (1 - f) h / (1 - f h); the constant log(1 - f) is omitted.

    logits (b, B), bins (b,) int64, events (b,) bool, before_entry (b, B) f (None: 0) -> (b,)
    """
    alive = functional.logsigmoid(-logits)  # log(1 - h), (b, B)
    survived = torch.cat([torch.zeros_like(alive[:, :1]), alive.cumsum(dim=1)], dim=1)  # log S_{j-1}, (b, B + 1)
    at = bins[:, None]
    died = -(survived.gather(1, at) + functional.logsigmoid(logits).gather(1, at))[:, 0]
    lived = -survived.gather(1, at + 1)[:, 0]
    if before_entry is not None:
        partly = torch.log1p(-before_entry.clamp_max(_PARTLY) * logits.sigmoid())
        to_entry = torch.where(before_entry < 1, partly, alive).sum(dim=1)
        died, lived = died + to_entry, lived + to_entry
    return torch.where(events, died, (1 - alpha) * lived)


def piecewise_nll(
    logits: Tensor,
    times: Tensor,
    events: Tensor,
    edges: Sequence[float],
    alpha: float,
    before_entry: Tensor | None = None,
) -> Tensor:
    """Censored negative log-likelihood of hazard rates constant within each bin, one term per patient; lower is better.

    With a_j = softplus(logit_j), the increment of the cumulative hazard in bin j of width w_j (mcti/model/hazards.py),
    and t in bin k, H(t) = sum_{j<k} a_j + a_k (t - edge_k) / w_k and the rate is a_k / w_k per month:
      event at t            -log(a_k / w_k) + H(t)
      censored at t         (1 - alpha) H(t)
    alpha as in `discrete_nll`. In contrast to it, the time within a bin is used, and there may be many bins.
    (Friedman 1982, Ann. Statist. 10:101-113, section 2.) A time beyond the last edge has the last bin's rate.
    Left truncation: H(t) - H(entry) in place of H(t), the likelihood conditional on survival to the entry.

    logits (b, B), times (b,) months, events (b,) bool, edges (B + 1), before_entry (b, B) share of each bin before the
    entry (None: 0) -> (b,)
    """
    bounds = torch.tensor(list(edges), dtype=logits.dtype, device=logits.device)
    at = torch.searchsorted(bounds[1:-1].contiguous(), times.to(logits.dtype), right=True)
    width = (bounds[1:] - bounds[:-1])[at]
    added = functional.softplus(logits)
    before = torch.cat([torch.zeros_like(added[:, :1]), added.cumsum(dim=1)], dim=1).gather(1, at[:, None])[:, 0]
    in_bin = added.gather(1, at[:, None])[:, 0]
    cumulative = before + in_bin * (times.to(logits.dtype) - bounds[at]) / width
    if before_entry is not None:
        cumulative = cumulative - (added * before_entry).sum(dim=1)
    # For x far below 0, log softplus(x) is x; softplus itself rounds to 0.
    chosen = logits.gather(1, at[:, None])[:, 0]
    rate = torch.where(chosen < -20, chosen, functional.softplus(chosen.clamp_min(-20)).log()) - width.log()
    return torch.where(events, cumulative - rate, (1 - alpha) * cumulative)


def subtype_terms(logits: Tensor, subtypes: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy of the subtype, one weighted term per patient.

    logits (b, C), subtypes (b,), weights (C,) -> (b,)
    """
    return functional.cross_entropy(logits, subtypes, weight=weights, reduction="none")


def hard_negative_terms(logits: Tensor, present: Tensor, subtypes: Tensor, count: int) -> Tensor:
    """The loss of the instance classifier on hard negatives among the critical patches, one term per patient.

    Online hard example mining (Shrivastava et al. 2016, CVPR) over the critical patches in memory: for each class the
    `count` patches with the largest logit of that class among the patients of *other* subtypes (or all of
    them) are its hard negatives, and each contributes softplus(logit), the logistic loss of a negative. A patch may be
    a negative of several classes. The mean over patients is the mean over all C·count chosen ones, so that the weight
    does not depend on how many patients a step has. PathologyOutput within the patients that are in memory at once
    (train.micro_patients): with another split of the step the negatives differ.

    logits (b, K, C) of the critical patches, present (b, K), subtypes (b,) -> (b,)
    """
    batch, patches, classes = logits.shape
    other = subtypes[:, None] != torch.arange(classes, device=logits.device)  # (b, C)
    allowed = (present[..., None] & other[:, None]).flatten(0, 1)  # (b·K, C)
    flat = logits.flatten(0, 1)
    hardest = flat.masked_fill(~allowed, -torch.inf).topk(min(count, batch * patches), dim=0).indices
    kept = torch.zeros_like(allowed).scatter_(0, hardest, True) & allowed
    terms = (functional.softplus(flat) * kept).view(batch, -1).sum(dim=1)
    return terms * batch / kept.sum().clamp_min(1)


def class_weights(subtypes: Tensor, classes: int) -> Tensor:
    """Weights (C,) that give each class of a training part equal influence: n / (C n_c), mean 1 over its patients."""
    counts = torch.bincount(subtypes, minlength=classes).clamp(min=1).float()
    return len(subtypes) / (classes * counts)


def cox_terms(
    risk: Tensor, times: Tensor, events: Tensor, ties: str = "efron", entries: Tensor | None = None
) -> Tensor:
    """Negative log partial likelihood of Cox's model, one term per patient (0 for a censored one); lower is better.

    Breslow: each event i adds log sum_{times_j >= times_i} exp(risk_j) - risk_i.  Efron: of the d events at one
    time, the l-th (l = 0 … d-1) has the sum minus l/d of the tied events' own. (Efron 1977, JASA 72:557-565.)
    risk, times, events (b,) -> (b,). The sum, not the mean, is the likelihood; equal times are ties.
    entries (b,) months of entry under observation: a patient is at risk of the events after it. None: the origin.
    """
    at_risk = times[None, :] >= times[:, None]
    if entries is not None:
        # Those with the time of the event entered before it, also where single precision makes both times equal.
        at_risk = at_risk & ((entries[None, :] < times[:, None]) | (times[None, :] == times[:, None]))
    tied = (times[None, :] == times[:, None]) & events[None, :] & events[:, None]
    floor = risk.max().detach()
    weights = (risk - floor).exp()
    total = (at_risk * weights).sum(dim=1)
    if ties == "efron":
        position = tied.tril(-1).sum(dim=1) / tied.sum(dim=1).clamp(min=1)  # l / d, by position among the tied
        total = total - position * (tied * weights).sum(dim=1)
    # Without an event the sum may cancel to 0; its logarithm must not enter the gradient.
    safe = torch.where(events, total, torch.ones_like(total))
    return torch.where(events, safe.log() + floor - risk, torch.zeros_like(risk))


def ranking_terms(risk: Tensor, times: Tensor, events: Tensor, entries: Tensor | None = None) -> Tensor:
    """A smooth surrogate of 1 - C, one term per patient: log2(1 + exp(risk_j - risk_i)) averaged over the patients j
    who outlive the event of i (Raykar et al. 2007, NIPS 20, equation 7); 1 where risks are equal, lower is better.

    entries (b,) months of entry under observation, None: the origin; a patient is compared with events after it alone
    risk, times, events (b,) -> (b,); 0 for a patient without a comparable pair.
    """
    ordered = events[:, None] & ((times[None, :] > times[:, None]) | ((times[None, :] == times[:, None]) & ~events))
    if entries is not None:
        ordered = ordered & (entries[None, :] < times[:, None])
    pairs = functional.softplus(risk[None, :] - risk[:, None]) / torch.log(torch.tensor(2.0, dtype=risk.dtype))
    return (ordered * pairs).sum(dim=1) / ordered.sum(dim=1).clamp(min=1)
