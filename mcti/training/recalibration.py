"""Survival curves put right by patients of the training part whom the predicting model had not seen.

A network's curves are too sure of themselves where it overfits; its own training patients cannot show that. So the
training part is dealt into inner folds, a model is trained on each rest and predicts the fold left out, and two numbers
are fitted on these predictions: how far the level is off, and by how much patients are set too far apart. The model of
the whole training part then keeps its risks, and its curves pass through the two numbers (Fitted.recalibration).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mcti.dataset.bags import PatientBag
from mcti.dataset.sampling import seeded_generator
from mcti.model.hazards import survival_at
from mcti.model.trained import Recalibration, TrainedModel, hazard_increments

SLOPE_EVENTS = 20
"""Events from which on the slope is fitted as well: ten for each of the two numbers."""


@dataclass(frozen=True)
class Unseen:
    """Curves of patients by models that did not see them: after each bin of `edges`, (n, B); their fate (n,)."""

    survival: Tensor
    time_months: Tensor
    event: Tensor


def of(
    edges: Sequence[float],
    bags: Sequence[PatientBag],
    folds: int,
    key: tuple[int | str, ...],
    train: Callable[[list[PatientBag], int], TrainedModel],
) -> Recalibration:
    """The two numbers of a training part `bags` whose model has these `edges`.

    train  fits the model of inner fold k on the patients that it is given; nobody else has a say
    """
    parts, survival = deal(bags, folds, key), torch.zeros(len(bags), len(edges) - 1, dtype=torch.float64)
    for k, left_out in enumerate(parts):
        kept = [bags[place] for part in parts if part is not left_out for place in part]
        model = train(kept, k)
        survival[left_out] = curves(model, [bags[place] for place in left_out], edges)
    months = torch.tensor([bag.time_months for bag in bags], dtype=torch.float64)
    return fit(Unseen(survival, months, torch.tensor([bag.event for bag in bags])), edges)


def deal(bags: Sequence[PatientBag], folds: int, key: tuple[int | str, ...]) -> list[list[int]]:
    """Positions in `bags` of each inner fold, alike in events and subtypes; `key` decides the shuffle."""
    order = torch.randperm(len(bags), generator=seeded_generator("recalibration", *key)).tolist()
    order.sort(key=lambda place: (bags[place].event, bags[place].subtype))  # stable: shuffled within a stratum
    return [sorted(order[k::folds]) for k in range(folds)]


def curves(model: TrainedModel, bags: Sequence[PatientBag], edges: Sequence[float]) -> Tensor:
    """(n, B) float64: S at the inner and last `edges`, of a model whose own edges may be others."""
    rows = []
    for bag in bags:
        with torch.inference_mode():
            found = model.output(bag.patches, bag.genes, bag.covariates).survival.double()
        rows.append(survival_at(found, model.fitted.edges, edges[1:], model.config.head)[0])
    return torch.stack(rows)


def fit(unseen: Unseen, edges: Sequence[float]) -> Recalibration:
    """Level and slope by Poisson regression of the events in each bin on the log of the predicted cumulative hazard.

    With constant hazard inside a bin the likelihood of survival times is that of a Poisson count whose expectation is
    the exposed part of the bin's hazard (Holford 1980, Biometrics 36:299-305); the regression on predicted hazards is
    that of Crowson, Atkinson and Therneau 2016 (Stat. Methods Med. Res. 25:1692-1706):
    log E = intercept + centre_j + slope (log h_ij - centre_j) + log exposed_ij.
    A slope below 0 would turn the ranking round: then it is 0, and everybody gets the mean curve.
    """
    logs = hazard_increments(unseen.survival).log()
    exposed, ended = _exposure(unseen, edges)
    weight = exposed.sum(0).clamp_min(1e-12)
    centre = (logs * exposed).sum(0) / weight
    spread, slope = logs - centre, 1.0
    if float(ended.sum()) >= SLOPE_EVENTS:
        slope = max(0.0, _slope(centre, spread, exposed, ended))
    expected = (exposed * (centre + slope * spread).exp()).sum()
    intercept = float((ended.sum() / expected).log()) if ended.any() else 0.0
    return Recalibration(intercept, slope, tuple(centre.tolist()))


def _exposure(unseen: Unseen, edges: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Share of each bin in which a patient was followed, and the events, (n, B) each."""
    knots = torch.tensor(list(edges), dtype=torch.float64)
    start, end = knots[:-1], knots[1:]
    time = unseen.time_months.double()[:, None]
    exposed = ((time - start) / (end - start)).clamp(0, 1)
    own = (torch.searchsorted(knots, unseen.time_months.double(), right=True) - 1).clamp(0, len(end) - 1)
    ended = torch.zeros_like(exposed)
    ended[torch.arange(len(own)), own] = unseen.event.double()
    return exposed, ended


def _slope(centre: Tensor, spread: Tensor, exposed: Tensor, ended: Tensor) -> float:
    """Newton's steps on the likelihood with the intercept profiled out; concave, so a few settle it."""
    slope = 1.0
    for _ in range(50):
        expected = exposed * (centre + slope * spread).exp()
        share = expected / expected.sum()
        mean = float((share * spread).sum())
        gradient = float((ended * spread).sum()) - float(ended.sum()) * mean
        curvature = float(ended.sum()) * float((share * (spread - mean).square()).sum())
        if curvature < 1e-12:  # all patients alike: any slope gives the same curves
            return 1.0
        step = max(-1.0, min(1.0, gradient / curvature))
        slope += step
        if abs(step) < 1e-10:
            break
    return slope
