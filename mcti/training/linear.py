"""The Cox model beside a trained network (mcti/model/linear.py), fitted on the patients of the training part alone."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mcti.model import cox
from mcti.model.axes import directions
from mcti.model.clinical import read_covariates
from mcti.model.hazards import survive
from mcti.model.linear import LinearPath
from mcti.model.peers import build
from mcti.model.trained import TrainedModel
from mcti.training import bags as bagging
from mcti.training.bags import PatientBag

AXES = {"genes": 30, "features": 20}
"""Principal axes that stand for the genes and for the patients' mean patches; of the covariates every column stands."""


def joined(model: TrainedModel, bags: Sequence[PatientBag], share: float, seed: int) -> TrainedModel:
    """The model with a ridge Cox model of the same training part beside it; its own weights stay as they are.

    share  weight of the Cox model's hazard logits in the mean of the two
    seed   deals the inner folds that choose the penalty
    """
    config = dataclasses.replace(model.config, linear=True)
    net = build(config)
    net.load_state_dict(net.state_dict() | model.net.state_dict())
    assert net.linear is not None
    fill(net.linear, model, bags, seed)
    net.linear.share.fill_(share)
    return TrainedModel(net, config, model.fitted)


@torch.no_grad()
def fill(path: LinearPath, model: TrainedModel, bags: Sequence[PatientBag], seed: int) -> None:
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
    for (name, rows), part in zip(maps.items(), parts, strict=True):
        getattr(path, name).copy_(part @ rows)
    scores = torch.stack([tables[name] @ getattr(path, name).double() for name in tables]).sum(0)
    path.base.copy_(base_logits(scores, bags, model.fitted.edges, model.config.head))


def base_logits(scores: Tensor, bags: Sequence[PatientBag], edges: Sequence[float], head: str) -> Tensor:
    """(B,) hazard logits of a patient whose score is 0, for the scores (n,) of a training part.

    In each bin as many events are expected of those who reach it as there were (with half a patient on either side, as
    in `bags.base_hazard`): the maximum likelihood of discrete hazards with the scores as offsets. Found by bisection.
    """
    bins = bagging.bin_of(torch.tensor([bag.time_months for bag in bags], dtype=torch.float64), edges)
    reached = (bins[:, None] >= torch.arange(len(edges) - 1)).double()
    wanted = bagging.base_hazard(bags, edges).double() * reached.sum(0)
    low, high = (torch.full((len(edges) - 1,), side, dtype=torch.float64) for side in (-100.0, 100.0))
    for _ in range(60):
        middle = (low + high) / 2
        expected = (survive(middle + scores[:, None], head)[0] * reached).sum(0)
        low, high = torch.where(expected < wanted, middle, low), torch.where(expected < wanted, high, middle)
    return (low + high) / 2


def _inputs(model: TrainedModel, bags: Sequence[PatientBag]) -> dict[str, Tensor]:
    """genes (n, G), features (n, D_in) of the mean patch, covariates (n, 2V), as the network is given them; float64."""
    fitted, reads = model.fitted, model.config.modalities
    genes = [b.genes.double() if b.genes is not None and "genes" in reads else fitted.genes.mean for b in bags]
    slides = [
        b.patches.mean(0, dtype=torch.float64) if b.patches is not None and "slides" in reads else fitted.features.mean
        for b in bags
    ]
    tables = {"genes": fitted.genes(_table(genes)), "features": fitted.features(_table(slides))}
    if model.config.covariates:
        raw = bagging.covariate_table(bags, model.config.covariates).double()
        tables["covariates"] = read_covariates(fitted.covariates.keeping_gaps(raw))
    return tables


def _table(rows: Sequence[Tensor]) -> Tensor:
    return torch.stack([row.double() for row in rows])


def _columns(table: Tensor, axes: int | None) -> Tensor:
    """Rows that take a centred table (n, p) to columns of unit variance; with `axes` along so many principal axes.

    A column that does not vary is silent.
    """
    sd = table.std(0, correction=0)
    scale = torch.where(sd > 1e-8, sd, torch.inf).reciprocal()
    if axes is None:
        return torch.diag(scale)
    return directions((table - table.mean(0)) * scale, min(axes, table.shape[1])) * scale
