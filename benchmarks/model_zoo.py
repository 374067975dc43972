"""The model zoo: each model of a comparison by its name, fitted on one training part.

Linear models, trees, networks, MCTI and its ensemble with a Cox model. `mcti evaluate` compares one trained model with
the baselines; a study compares all of these models on the same folds.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch

from mcti.arrays import IntArray
from mcti.dataset.bags import Dataset, PatientBag
from mcti.dataset.batches import collate
from mcti.dataset.sources import Transfer
from mcti.errors import UsageError, did_you_mean
from mcti.evaluation import baselines
from mcti.evaluation.design_matrix import Inputs
from mcti.evaluation.predictions import Predictions
from mcti.model.comparators import build
from mcti.model.hazards import survival_at
from mcti.model.trained import TrainedModel
from mcti.params import TrainParams
from mcti.params.variants import ABLATIONS, COMPARATORS
from mcti.training import folds as folding
from mcti.training.fine_tuning import train
from mcti.training.fit_cox_branch import with_cox_branch
from mcti.training.run import Task

ENSEMBLE = "mcti+cox"
COX_WEIGHTS: Mapping[str, float | None] = {"mcti": 0.0, "cox_branch": 1.0, ENSEMBLE: None}
"""Models of one training run with the settings of `mcti train` -> the weight of its Cox branch; None: as trained."""
TRANSFER = " transfer"
"""End of the name of a model that also learns from other cohorts."""
TRANSFERRED = tuple(f"{name}{TRANSFER}" for name in COX_WEIGHTS)
NETWORKS: Mapping[str, str] = {
    **dict.fromkeys((*COX_WEIGHTS, *TRANSFERRED), "compact"),
    **{name: name for name in (*COMPARATORS, *ABLATIONS)},
}
"""Name -> `train.preset`; settings, folds and covariates are the same for all. Each is the network alone, except for
the ensemble with a Cox model, which is the default of `mcti train`, and its Cox branch alone."""
NAMES = (*baselines.REGISTRY, *NETWORKS)
BATCH = 32
"""Patients who are predicted together, those with bags of similar length."""


@dataclass(frozen=True)
class Patients:
    """A cohort as tables and as bags; rows of `inputs` are the patients of `data` in the order of the table."""

    inputs: Inputs
    data: Dataset

    def bags(self, rows: IntArray) -> list[PatientBag]:
        """The bags of these rows."""
        return self.data.select([str(name) for name in self.inputs.patients["patient_id"].iloc[rows]], "the study")


@dataclass(frozen=True)
class RowSplit:
    """One fold by rows of the cohort's table: the training part, the test part and the number."""

    fold: int
    train: IntArray
    test: IntArray


Forecast = Callable[[IntArray], Predictions]
"""Rows of the cohort's table -> risk and S at the horizons of the settings."""


def fit(
    name: str, patients: Patients, split: RowSplit, params: TrainParams, sources: Sequence[Dataset] = ()
) -> Forecast:
    """Fit one model on a training part; `params.seed` decides the draws, `params.horizons_months` the months of S.

    sources  other cohorts with the genes of this one, for a model with transfer

    Raises UsageError when there is no model of that name, or a model with transfer has no sources
    Raises DataError when no model can be fitted on the training part
    """
    if name in NETWORKS:
        model = fit_networks([name], patients, split, params, sources)[name]
        return network_forecast(model, patients, params.horizons_months)
    if name not in baselines.REGISTRY:
        raise UsageError(f"no model {name!r}", "the study", did_you_mean(name, NAMES))
    months, baseline = np.array(params.horizons_months), baselines.create(name)
    baseline.fit(patients.inputs.rows(split.train), params.seed)
    return lambda rows: Predictions(*baseline.predict(patients.inputs.rows(rows), months))


def training_run(name: str, params: TrainParams) -> str:
    """Models with the same result come from one training run (`fit_networks`).

    Without fine-tuning the network of a model with transfer is that of the model without.
    """
    if name.removesuffix(TRANSFER) not in COX_WEIGHTS:
        return name
    return f"{ENSEMBLE}{TRANSFER}" if name.endswith(TRANSFER) and params.fine_tuning != "none" else ENSEMBLE


def fit_networks(
    names: Sequence[str], patients: Patients, split: RowSplit, params: TrainParams, sources: Sequence[Dataset] = ()
) -> dict[str, TrainedModel]:
    """Networks of one training run by the loop of `mcti train`, for its fixed number of epochs; errors as in `fit`."""
    (run,) = {training_run(name, params) for name in names}
    ensemble = run.removesuffix(TRANSFER) == ENSEMBLE
    changes: dict[str, Any] = {"preset": NETWORKS[names[0]]} | ({} if ensemble else {"cox_weight": 0.0})
    if all(COX_WEIGHTS.get(name.removesuffix(TRANSFER)) == 1 for name in names):
        changes |= {"cox_weight": 1.0, "epochs": 1}  # the network has no weight
    settings = params.model_copy(update=changes)
    first, *rest = dict.fromkeys(name.endswith(TRANSFER) for name in names)
    tasks = {
        with_transfer: _task(patients, split, settings, run, sources if with_transfer else None)
        for with_transfer in (first, *rest)
    }
    models = {first: train(tasks[first]).model}
    models |= {other: with_cox_branch(models[first], tasks[other])[0] for other in rest}
    if not ensemble:
        return dict.fromkeys(names, models[first])
    return {n: with_cox_weight(models[n.endswith(TRANSFER)], COX_WEIGHTS[n.removesuffix(TRANSFER)]) for n in names}


def _task(
    patients: Patients, split: RowSplit, settings: TrainParams, run: str, sources: Sequence[Dataset] | None
) -> Task:
    """The task of a training part; sources None: without transfer."""
    if sources is not None and not sources:
        raise UsageError("a model with transfer needs other cohorts", "the study", "add cohorts to the folder")
    where, key = f"{run}, fold {split.fold}", ("fold", split.fold)
    transfer = Transfer(tuple(sources or ()))
    return folding.prepare(patients.data, patients.bags(split.train), settings, key, where, transfer)


def with_cox_weight(model: TrainedModel, weight: float | None) -> TrainedModel:
    """The model with another weight of its Cox branch; 0: the network alone, None: unchanged."""
    if weight is None:
        return model
    if weight:
        net = copy.deepcopy(model.net)
        assert net.cox_branch is not None
        net.cox_branch.cox_weight.fill_(weight)
        return TrainedModel(net, model.config, model.fitted)
    config = replace(model.config, cox_branch=False)
    net = build(config)
    net.load_state_dict({k: v for k, v in model.net.state_dict().items() if not k.startswith("cox_branch.")})
    return TrainedModel(net, config, model.fitted)


def network_forecast(model: TrainedModel, patients: Patients, months: Sequence[float]) -> Forecast:
    """The forecast of a trained network."""
    return lambda rows: predict_bags(model, patients.bags(rows), months)


def predict_bags(model: TrainedModel, bags: Sequence[PatientBag], months: Sequence[float]) -> Predictions:
    """Risk, S(t) and subtypes of these patients, predicted in padded batches.

    Six times as fast as `TrainedModel.predict`, one patient at a time, and equal up to rounding (5e-7).
    """
    order = sorted(range(len(bags)), key=lambda row: _length(bags[row]))
    risk, survival = np.empty(len(bags)), np.empty((len(bags), len(months)))
    shares = np.empty((len(bags), len(model.config.classes)))
    for start in range(0, len(bags), BATCH):
        rows = order[start : start + BATCH]
        batch = collate(
            [bags[row] for row in rows], model.fitted, _length(bags[rows[-1]]), (), model.config.clinical_inputs
        )
        inputs = {"patches": batch.patches, "mask": batch.mask, "genes": batch.genes}
        if batch.covariates is not None:
            inputs["covariates"] = batch.covariates
        with torch.inference_mode():
            output = model.net(**inputs)
        curves = survival_at(output.survival.double(), model.fitted.edges, months, model.config.head)
        risk[rows], survival[rows] = output.risk.numpy(), curves.numpy()
        shares[rows] = output.subtype_logits.double().softmax(1).numpy()
    return Predictions(risk, survival, pd.DataFrame(shares, columns=list(model.config.classes)))


def _length(bag: PatientBag) -> int:
    assert bag.patches is not None, "the patients of a study have slides"
    return len(bag.patches)
