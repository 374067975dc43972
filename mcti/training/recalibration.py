"""Recalibration of survival curves by patients of the training part whom the predicting model was not trained on.

The curves of an overfitted network are overconfident, which its own training patients cannot show. Therefore the
training part is split into inner folds. A model is trained without each inner fold and predicts it. Two numbers are
fitted on these predictions: a level (the factor by which the predicted hazards are too high or too low) and a slope
(the factor by which differences between patients are too large). The model of the whole training part keeps its risks,
and its curves are transformed with the two numbers (Fitted.recalibration).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mcti.dataset.bags import PatientBag, entries
from mcti.dataset.sampling import seeded_generator
from mcti.dataset.time_bins import shares_before
from mcti.model.hazards import survival_at
from mcti.model.trained import Recalibration, TrainedModel, hazard_increments

SLOPE_EVENTS = 20
"""Fewest events for which the slope is fitted as well: ten for each of the two numbers."""


@dataclass(frozen=True)
class HeldOutCurves:
    """Curves of patients by models that were not trained on them: S after each bin of `edges`, (n, B).

    time_months, event  (n,) each
    entry_months        (n,) entry under observation, None: the origin
    """

    survival: Tensor
    time_months: Tensor
    event: Tensor
    entry_months: Tensor | None = None


def fit_by_inner_models(
    edges: Sequence[float],
    bags: Sequence[PatientBag],
    folds: int,
    key: tuple[int | str, ...],
    train: Callable[[list[PatientBag], int], TrainedModel],
) -> Recalibration:
    """Level and slope of a training part `bags` whose model has bins with these `edges` in months.

    train  fits the model without inner fold k on the patients of its first argument alone
    """
    parts, survival = assign_inner_folds(bags, folds, key), torch.zeros(len(bags), len(edges) - 1, dtype=torch.float64)
    for k, left_out in enumerate(parts):
        kept = [bags[position] for part in parts if part is not left_out for position in part]
        model = train(kept, k)
        survival[left_out] = curves(model, [bags[position] for position in left_out], edges)
    months = torch.tensor([bag.time_months for bag in bags], dtype=torch.float64)
    entry = None if (values := entries(bags)) is None else torch.from_numpy(values)
    return fit(HeldOutCurves(survival, months, torch.tensor([bag.event for bag in bags]), entry), edges)


def assign_inner_folds(bags: Sequence[PatientBag], folds: int, key: tuple[int | str, ...]) -> list[list[int]]:
    """Positions in `bags` of each inner fold, stratified by event and subtype and shuffled by `key`."""
    order = torch.randperm(len(bags), generator=seeded_generator("recalibration", *key)).tolist()
    order.sort(key=lambda position: (bags[position].event, bags[position].subtype))  # stable: shuffled within a stratum
    return [sorted(order[k::folds]) for k in range(folds)]


def curves(model: TrainedModel, bags: Sequence[PatientBag], edges: Sequence[float]) -> Tensor:
    """(n, B) float64: S at the inner and last `edges`, of a model whose own edges may differ."""
    rows = []
    for bag in bags:
        with torch.inference_mode():
            survival = model.output(bag.patches, bag.genes, bag.clinical).survival.double()
        rows.append(survival_at(survival, model.fitted.edges, edges[1:], model.config.head)[0])
    return torch.stack(rows)


def fit(held_out: HeldOutCurves, edges: Sequence[float]) -> Recalibration:
    """Level and slope by Poisson regression of the events in each bin on the log of the predicted cumulative hazard.

    With constant hazard inside a bin the likelihood of survival times is that of a Poisson count whose expectation is
    the exposed part of the bin's hazard (Holford 1980, Biometrics 36:299-305); the regression on predicted hazards is
    that of Crowson, Atkinson and Therneau 2016 (Stat. Methods Med. Res. 25:1692-1706):
    log E = intercept + centre_j + slope (log h_ij - centre_j) + log exposed_ij; edges in months.
    A negative slope would reverse the ranking: then the slope is 0, and all patients get the mean curve.
    """
    logs = hazard_increments(held_out.survival).log()
    exposed, ended = exposure(held_out, edges)
    weight = exposed.sum(0).clamp_min(1e-12)
    centre = (logs * exposed).sum(0) / weight
    spread, slope = logs - centre, 1.0
    if float(ended.sum()) >= SLOPE_EVENTS:
        slope = max(0.0, _slope(centre, spread, exposed, ended))
    expected = (exposed * (centre + slope * spread).exp()).sum()
    intercept = float((ended.sum() / expected).log()) if ended.any() else 0.0
    return Recalibration(intercept, slope, tuple(centre.tolist()))


def exposure(held_out: HeldOutCurves, edges: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Share of each bin in which a patient was followed from the entry on, and the events, (n, B) each."""
    bounds = torch.tensor(list(edges), dtype=torch.float64)
    start, end = bounds[:-1], bounds[1:]
    time = held_out.time_months.double()[:, None]
    exposed = ((time - start) / (end - start)).clamp(0, 1)
    if held_out.entry_months is not None:
        exposed = (exposed - shares_before(held_out.entry_months, edges)).clamp_min(0)
    bins = (torch.searchsorted(bounds, held_out.time_months.double(), right=True) - 1).clamp(0, len(end) - 1)
    ended = torch.zeros_like(exposed)
    ended[torch.arange(len(bins)), bins] = held_out.event.double()
    return exposed, ended


def _slope(centre: Tensor, spread: Tensor, exposed: Tensor, ended: Tensor) -> float:
    """Newton's method on the profile likelihood of the slope; it is concave, so that a few steps converge."""
    slope = 1.0
    for _ in range(50):
        expected = exposed * (centre + slope * spread).exp()
        share = expected / expected.sum()
        mean = float((share * spread).sum())
        gradient = float((ended * spread).sum()) - float(ended.sum()) * mean
        curvature = float(ended.sum()) * float((share * (spread - mean).square()).sum())
        if curvature < 1e-12:  # all predictions are equal: any slope gives the same curves
            return 1.0
        step = max(-1.0, min(1.0, gradient / curvature))
        slope += step
        if abs(step) < 1e-10:
            break
    return slope
