"""The model zoo: each model of a comparison by its name, fitted on one training part.

Linear models, trees, networks, MCTI and its ensemble with a Cox model. `mcti evaluate` compares one trained model with
the baselines; a study compares all of these models on the same folds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcti.arrays import IntArray
from mcti.dataset.bags import Dataset, PatientBag
from mcti.errors import UsageError, did_you_mean
from mcti.evaluation import baselines
from mcti.evaluation.design_matrix import Inputs
from mcti.evaluation.predictions import Predictions
from mcti.model.trained import TrainedModel, survival_column
from mcti.params import TrainParams
from mcti.params.variants import ABLATIONS, COMPARATORS
from mcti.training import fold_files
from mcti.training import folds as folding
from mcti.training.loop import train

ENSEMBLE = "mcti+cox"
NETWORKS: Mapping[str, str] = {
    "mcti": "compact",
    ENSEMBLE: "compact",
    **{name: name for name in (*COMPARATORS, *ABLATIONS)},
}
"""Name -> `train.preset`; settings, folds and covariates are the same for all. Each is the network alone, except for
the ensemble with a Cox model, the default of `mcti train` (`train.cox_weight`)."""
NAMES = (*baselines.REGISTRY, *NETWORKS)


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


def fit(name: str, patients: Patients, split: RowSplit, params: TrainParams) -> Forecast:
    """Fit one model on a training part; `params.seed` decides the draws, `params.horizons_months` the months of S.

    Raises UsageError when there is no model of that name
    Raises DataError when no model can be fitted on the training part
    """
    if name in NETWORKS:
        return network_forecast(fit_network(name, patients, split, params), patients, params.horizons_months)
    if name not in baselines.REGISTRY:
        raise UsageError(f"no model {name!r}", "the study", did_you_mean(name, NAMES))
    months, model = np.array(params.horizons_months), baselines.create(name)
    model.fit(patients.inputs.rows(split.train), params.seed)
    return lambda rows: Predictions(*model.predict(patients.inputs.rows(rows), months))


def fit_network(name: str, patients: Patients, split: RowSplit, params: TrainParams) -> TrainedModel:
    """One network, trained by the loop of `mcti train` for its fixed number of epochs."""
    share = params.cox_weight if name == ENSEMBLE else 0.0
    settings = params.model_copy(update={"preset": NETWORKS[name], "cox_weight": share})
    where = f"{name}, fold {split.fold}"
    task = folding.prepare(patients.data, patients.bags(split.train), settings, ("fold", split.fold), where)
    return train(task).model


def network_forecast(model: TrainedModel, patients: Patients, months: Sequence[float]) -> Forecast:
    """The forecast of a trained network."""
    return lambda rows: predict_bags(model, patients.bags(rows), months)


def predict_bags(model: TrainedModel, bags: Sequence[PatientBag], months: Sequence[float]) -> Predictions:
    """Risk and S(t) of these patients, one at a time."""
    rows: list[dict[str, Any]] = fold_files.predict(model, bags, months)
    columns = [survival_column(t) for t in months]
    return Predictions(np.array([r["risk"] for r in rows]), np.array([[r[c] for c in columns] for r in rows]))
