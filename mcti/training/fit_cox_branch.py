"""The Cox branch of a trained network (mcti/model/cox_branch.py), fitted on the training part, sources and prior."""

import copy
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mcti.dataset.bags import Dataset, PatientBag, entries
from mcti.dataset.time_bins import at_risk_shares, base_hazard
from mcti.model.cox_branch import CoxBranch
from mcti.model.hazards import hazard_and_survival, hazard_of_rest
from mcti.model.presets import ModelConfig
from mcti.model.prior import Prior
from mcti.model.trained import TrainedModel
from mcti.training.cox_design import Ratios
from mcti.training.cox_inputs import GENE_LIMIT, Tables, cox_inputs, source_inputs
from mcti.training.cox_strata import fit_strata
from mcti.training.cox_transfer import Part, Score, fit_score
from mcti.training.run import Task


def with_cox_branch(model: TrainedModel, task: Task) -> tuple[TrainedModel, Mapping[str, float]]:
    """The ensemble of the trained model of a task and a ridge Cox model, and the choices of the Cox fit.

    The network's weights do not change; the choices are those of `mcti.training.cox_transfer.Score`.
    """
    config = dataclasses.replace(model.config, cox_branch=True)
    branch = CoxBranch(config)
    choice = fit_branch(branch, model, task)
    branch.cox_weight.fill_(task.params.cox_weight)
    net = copy.deepcopy(model.net)
    net.config, net.cox_branch = config, branch
    return TrainedModel(net, config, model.fitted), choice


@torch.no_grad()
def fit_branch(branch: CoxBranch, model: TrainedModel, task: Task) -> Mapping[str, float]:
    """Fit the log hazard ratios of the branch and the corresponding base hazards; the choices of the fit."""
    tables = cox_inputs(model.fitted, model.config, task.bags)
    score = fit_ratios(tables, model.config, task)
    ratios = score.ratios
    branch.gene_limit.fill_(GENE_LIMIT)
    branch.genes.copy_(ratios["genes"])
    if "covariates" in ratios:
        branch.covariates.copy_(ratios["covariates"])
    features, spreads = ratios["slides"].chunk(2)
    branch.features.copy_(features)
    branch.spreads.copy_(spreads)
    branch.spread_offset.copy_(tables["slides"].mean(0)[len(features) :] @ spreads)
    scores = torch.stack([tables[name] @ ratios[name] for name in tables]).sum(0) - branch.spread_offset
    branch.base.copy_(base_logits(scores, task.bags, model.fitted.edges, model.config.head))
    return score.choice


def fit_ratios(tables: Tables, config: ModelConfig, task: Task) -> Score:
    """The score of the `tables` of the task's training part, learned with its sources and its prior."""
    from threadpoolctl import threadpool_limits

    others = [source_part(config, source, task.params.gene_transform) for source in task.sources]
    prior = None if task.prior is None else prior_ratios(task.prior, config)
    with threadpool_limits(1):  # several threads would change the order of summation
        if task.by_cohort:
            return fit_strata(tables, others, task.params.seed, task.where)
        return fit_score(part(tables, task.bags), others, prior, task.params.seed, task.where)


def prior_ratios(prior: Prior, config: ModelConfig) -> Ratios | None:
    """The mean log hazard ratios of the Cox branches of a prior for the inputs of a model; None: it has no branch.

    Genes and covariates are matched by name, and one that the prior does not read has the ratio 0. Slides have the
    ratio 0 where the prior read features of another encoder (`Prior.slides`) or of another width.
    """
    known = [member for member in prior.members.values() if member.net.cox_branch is not None]
    if not known:
        return None
    matched = [_matched(member, config, prior.slides) for member in known]
    return {name: torch.stack([ratios[name] for ratios in matched]).mean(0) for name in matched[0]}


def _matched(member: TrainedModel, config: ModelConfig, same_encoder: bool) -> dict[str, Tensor]:
    branch, read = member.net.cox_branch, member.config
    assert branch is not None
    usable = same_encoder and read.features == config.features
    slides = torch.cat([branch.features, branch.spreads]) if usable else torch.zeros(2 * config.features)
    ratios = {"genes": _by_name(branch.genes, read.genes, config.genes), "slides": slides.double()}
    if config.covariates:
        # Of the columns, then of the indicators of missing values.
        values, missing = torch.split(branch.covariates, [len(read.clinical_columns), len(read.covariates)])
        columns = _by_name(values, read.clinical_columns, config.clinical_columns)
        ratios["covariates"] = torch.cat([columns, _by_name(missing, read.covariates, config.covariates)])
    return ratios


def _by_name(values: Tensor, names: Sequence[str], required: Sequence[str]) -> Tensor:
    """The values of the required names, 0 for a name without a value; float64."""
    known = dict(zip(names, values.tolist(), strict=True))
    return torch.tensor([known.get(name, 0.0) for name in required], dtype=torch.float64)


def source_part(config: ModelConfig, source: Dataset, gene_transform: str) -> Part:
    """Inputs and outcomes of all patients of a source, standardised within it; arguments as of `source_inputs`."""
    bags = list(source.bags.values())
    return part(source_inputs(config, bags, gene_transform), bags)


def part(tables: Tables, bags: Sequence[PatientBag]) -> Part:
    """The tables of these patients with their outcomes."""
    months = np.array([bag.time_months for bag in bags])
    return Part(tables, np.array([bag.event for bag in bags]), months, entries(bags))


def base_logits(scores: Tensor, bags: Sequence[PatientBag], edges: Sequence[float], head: str) -> Tensor:
    """(B,) hazard logits of a patient whose score is 0, for the scores (n,) of a training part.

    The expected number of events in each bin, among the patients at risk, equals the observed number (plus half a
    patient, as in `mcti.dataset.time_bins.base_hazard`): the maximum likelihood of discrete hazards with the scores
    as offsets. Solved by bisection. A patient who enters within a bin is at risk in the rest of it.
    """
    shares = at_risk_shares(bags, edges)
    observed = base_hazard(bags, edges).double() * shares.sum(0)
    low, high = (torch.full((len(edges) - 1,), side, dtype=torch.float64) for side in (-100.0, 100.0))
    for _ in range(60):
        middle = (low + high) / 2
        expected = hazard_of_rest(hazard_and_survival(middle + scores[:, None], head)[0], shares, head).sum(0)
        low, high = torch.where(expected < observed, middle, low), torch.where(expected < observed, high, middle)
    return (low + high) / 2
