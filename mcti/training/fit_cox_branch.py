"""The Cox branch of a trained network (mcti/model/cox_branch.py), fitted on the training part alone."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mcti.dataset.bags import PatientBag, covariate_table
from mcti.dataset.time_bins import base_hazard, bin_index
from mcti.model import cox
from mcti.model.axes import directions
from mcti.model.clinical import read_covariates
from mcti.model.comparators import build
from mcti.model.cox_branch import CoxBranch, moments
from mcti.model.hazards import hazard_and_survival
from mcti.model.trained import TrainedModel

AXES = {"genes": cox.GENE_AXES, "slides": cox.SLIDE_AXES}
"""Principal axes that stand for a table of inputs; covariates stand as they are."""


def joined(model: TrainedModel, bags: Sequence[PatientBag], share: float, seed: int) -> TrainedModel:
    """The model with a ridge Cox model of the same training part beside it; its own weights stay as they are.

    share  weight of the Cox model's hazard logits in the mean of the two
    seed   deals the inner folds that choose the penalty
    """
    config = dataclasses.replace(model.config, cox_branch=True)
    path = CoxBranch(config)
    fill(path, model, bags, seed)
    path.cox_weight.fill_(share)
    with torch.device("meta"):  # weights of its own would only be written over
        net = build(config)
    beside = {f"cox_branch.{name}": value for name, value in path.state_dict().items()}
    net.load_state_dict(model.net.state_dict() | beside, assign=True)
    return TrainedModel(net, config, model.fitted)


@torch.no_grad()
def fill(path: CoxBranch, model: TrainedModel, bags: Sequence[PatientBag], seed: int) -> None:
    """Fit the log hazard ratios, and the base hazards that go with them."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    tables = _inputs(model, bags)
    maps = {name: _columns(table, AXES.get(name)) for name, table in tables.items()}
    design = torch.cat([tables[name] @ maps[name].T for name in tables], 1).numpy()
    event = np.array([bag.event for bag in bags])
    months = np.array([bag.time_months for bag in bags])
    with threadpool_limits(1):  # sums of several threads would add in another order
        penalty = cox.choose_penalty(design, event, months, cox.PENALTIES, cox.INNER_FOLDS, seed)
        found = torch.from_numpy(cox.coefficients(design, event, months, penalty))
    parts = torch.split(found, [len(rows) for rows in maps.values()])
    ratios = {name: part @ rows for (name, rows), part in zip(maps.items(), parts, strict=True)}
    path.genes.copy_(ratios["genes"])
    if "covariates" in ratios:
        path.covariates.copy_(ratios["covariates"])
    features, spreads = ratios["slides"].chunk(2)
    path.features.copy_(features)
    path.spreads.copy_(spreads)
    path.usual.copy_(tables["slides"].mean(0)[len(features) :] @ spreads)
    scores = torch.stack([tables[name] @ ratios[name] for name in tables]).sum(0) - path.usual
    path.base.copy_(base_logits(scores, bags, model.fitted.edges, model.config.head))


def base_logits(scores: Tensor, bags: Sequence[PatientBag], edges: Sequence[float], head: str) -> Tensor:
    """(B,) hazard logits of a patient whose score is 0, for the scores (n,) of a training part.

    The expected number of events in each bin, of the patients who reach it, equals the observed number (plus half a
    patient, as in `mcti.dataset.time_bins.base_hazard`): the maximum likelihood of discrete hazards with the scores
    as offsets. Solved by bisection.
    """
    bins = bin_index(torch.tensor([bag.time_months for bag in bags], dtype=torch.float64), edges)
    reached = (bins[:, None] >= torch.arange(len(edges) - 1)).double()
    wanted = base_hazard(bags, edges).double() * reached.sum(0)
    low, high = (torch.full((len(edges) - 1,), side, dtype=torch.float64) for side in (-100.0, 100.0))
    for _ in range(60):
        middle = (low + high) / 2
        expected = (hazard_and_survival(middle + scores[:, None], head)[0] * reached).sum(0)
        low, high = torch.where(expected < wanted, middle, low), torch.where(expected < wanted, high, middle)
    return (low + high) / 2


def _inputs(model: TrainedModel, bags: Sequence[PatientBag]) -> dict[str, Tensor]:
    """genes (n, G), slides (n, 2 D_in) mean and spread of the patches, covariates (n, 2V), as `CoxBranch` reads them.

    float64. Who lacks a modality stands at the mean of those who have it.
    """
    fitted, config = model.fitted, model.config
    genes, slides = (name in config.modalities for name in ("genes", "slides"))
    told = [fitted.genes(b.genes.float()) if genes and b.genes is not None else None for b in bags]
    seen = [_moments(model, b.patches) if slides and b.patches is not None else None for b in bags]
    tables = {"genes": _filled(told, len(config.genes)), "slides": _filled(seen, 2 * config.features)}
    if config.covariates:
        raw = covariate_table(bags, config.covariates)
        tables["covariates"] = read_covariates(fitted.covariates.standardised(raw)).double()
    return tables


def _moments(model: TrainedModel, patches: Tensor) -> Tensor:
    rows = model.fitted.features(patches.float())
    return torch.cat(moments(rows[None], torch.ones(1, len(rows), dtype=torch.bool), model.config.block), 1)[0]


def _filled(rows: Sequence[Tensor | None], width: int) -> Tensor:
    """(n, width) float64, who has no row with the mean of the others, or zeros."""
    known = [row.double() for row in rows if row is not None]
    mean = torch.stack(known).mean(0) if known else torch.zeros(width, dtype=torch.float64)
    return torch.stack([mean if row is None else row.double() for row in rows])


def _columns(table: Tensor, axes: int | None) -> Tensor:
    """Rows that take a centred table (n, p) to columns of unit variance; with `axes` along so many principal axes.

    A column that does not vary is silent.
    """
    sd = table.std(0, correction=0)
    scale = torch.where(sd > 1e-8, sd, torch.inf).reciprocal()
    if axes is None:
        return torch.diag(scale)
    return directions((table - table.mean(0)) * scale, min(axes, table.shape[1])) * scale
