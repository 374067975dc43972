"""The Cox branch of a trained network (mcti/model/cox_branch.py), fitted on the training part alone."""

import copy
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
from mcti.model.cox_branch import CoxBranch, moments
from mcti.model.hazards import hazard_and_survival
from mcti.model.trained import TrainedModel

AXES = {"genes": cox.GENE_AXES, "slides": cox.SLIDE_AXES}
"""Number of principal axes that a table of inputs is reduced to; covariates are used unreduced."""


def with_cox_branch(model: TrainedModel, bags: Sequence[PatientBag], cox_weight: float, seed: int) -> TrainedModel:
    """The ensemble of the model and a ridge Cox model of the same training part; the network's weights do not change.

    cox_weight  weight of the Cox model's hazard logits in the mean of the two
    seed        of the inner folds that choose the penalty
    """
    config = dataclasses.replace(model.config, cox_branch=True)
    branch = CoxBranch(config)
    fit_branch(branch, model, bags, seed)
    branch.cox_weight.fill_(cox_weight)
    net = copy.deepcopy(model.net)
    net.config, net.cox_branch = config, branch
    return TrainedModel(net, config, model.fitted)


@torch.no_grad()
def fit_branch(branch: CoxBranch, model: TrainedModel, bags: Sequence[PatientBag], seed: int) -> None:
    """Fit the log hazard ratios of the branch and the corresponding base hazards."""
    from threadpoolctl import threadpool_limits

    tables = _inputs(model, bags)
    maps = {name: _columns(table, AXES.get(name)) for name, table in tables.items()}
    design = torch.cat([tables[name] @ maps[name].T for name in tables], 1).numpy()
    event = np.array([bag.event for bag in bags])
    months = np.array([bag.time_months for bag in bags])
    with threadpool_limits(1):  # several threads would change the order of summation
        penalty = cox.choose_penalty(design, event, months, cox.PENALTIES, cox.INNER_FOLDS, seed)
        coefficients = torch.from_numpy(cox.coefficients(design, event, months, penalty))
    parts = torch.split(coefficients, [len(rows) for rows in maps.values()])
    ratios = {name: part @ rows for (name, rows), part in zip(maps.items(), parts, strict=True)}
    branch.genes.copy_(ratios["genes"])
    if "covariates" in ratios:
        branch.covariates.copy_(ratios["covariates"])
    features, spreads = ratios["slides"].chunk(2)
    branch.features.copy_(features)
    branch.spreads.copy_(spreads)
    branch.spread_offset.copy_(tables["slides"].mean(0)[len(features) :] @ spreads)
    scores = torch.stack([tables[name] @ ratios[name] for name in tables]).sum(0) - branch.spread_offset
    branch.base.copy_(base_logits(scores, bags, model.fitted.edges, model.config.head))


def base_logits(scores: Tensor, bags: Sequence[PatientBag], edges: Sequence[float], head: str) -> Tensor:
    """(B,) hazard logits of a patient whose score is 0, for the scores (n,) of a training part.

    The expected number of events in each bin, among the patients at risk, equals the observed number (plus half a
    patient, as in `mcti.dataset.time_bins.base_hazard`): the maximum likelihood of discrete hazards with the scores
    as offsets. Solved by bisection.
    """
    bins = bin_index(torch.tensor([bag.time_months for bag in bags], dtype=torch.float64), edges)
    reached = (bins[:, None] >= torch.arange(len(edges) - 1)).double()
    observed = base_hazard(bags, edges).double() * reached.sum(0)
    low, high = (torch.full((len(edges) - 1,), side, dtype=torch.float64) for side in (-100.0, 100.0))
    for _ in range(60):
        middle = (low + high) / 2
        expected = (hazard_and_survival(middle + scores[:, None], head)[0] * reached).sum(0)
        low, high = torch.where(expected < observed, middle, low), torch.where(expected < observed, high, middle)
    return (low + high) / 2


def _inputs(model: TrainedModel, bags: Sequence[PatientBag]) -> dict[str, Tensor]:
    """genes (n, G), slides (n, 2 D_in) mean and spread of the patches, covariates (n, 2V), as `CoxBranch` reads them.

    float64. A patient without a modality has the mean of the patients with it.
    """
    fitted, config = model.fitted, model.config
    genes, slides = (name in config.modalities for name in ("genes", "slides"))
    gene_rows = [fitted.genes(b.genes.float()) if genes and b.genes is not None else None for b in bags]
    slide_rows = [_moments(model, b.patches) if slides and b.patches is not None else None for b in bags]
    tables = {"genes": _filled(gene_rows, len(config.genes)), "slides": _filled(slide_rows, 2 * config.features)}
    if config.covariates:
        raw = covariate_table(bags, config.covariates)
        tables["covariates"] = read_covariates(fitted.covariates.standardised(raw)).double()
    return tables


def _moments(model: TrainedModel, patches: Tensor) -> Tensor:
    rows = model.fitted.features(patches.float())
    return torch.cat(moments(rows[None], torch.ones(1, len(rows), dtype=torch.bool), model.config.block), 1)[0]


def _filled(rows: Sequence[Tensor | None], width: int) -> Tensor:
    """(n, width) float64; a missing row becomes the mean of the others, or zeros."""
    known = [row.double() for row in rows if row is not None]
    mean = torch.stack(known).mean(0) if known else torch.zeros(width, dtype=torch.float64)
    return torch.stack([mean if row is None else row.double() for row in rows])


def _columns(table: Tensor, axes: int | None) -> Tensor:
    """Rows that map a centred table (n, p) to columns of unit variance, or to that number of principal axes (`axes`).

    A constant column maps to 0.
    """
    sd = table.std(0, correction=0)
    scale = torch.where(sd > 1e-8, sd, torch.inf).reciprocal()
    if axes is None:
        return torch.diag(scale)
    return directions((table - table.mean(0)) * scale, min(axes, table.shape[1])) * scale
