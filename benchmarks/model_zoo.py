"""Every model of a comparison by one name, fitted on one training part: tables, trees, networks, MCTI, the stack.

`evaluate` scores one trained model against the baselines of tables; a study asks for all of these on the same folds.
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
"""Name -> `train.preset`. All else is the same for all of them: settings, folds, covariates. Each is the network alone;
only the stack, which is what `mcti train` makes by default, has the Cox model beside it (`train.cox_weight`)."""
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
class Part:
    """One fold by rows of the cohort's table: who is learned from, who is predicted, and its number."""

    fold: int
    train: IntArray
    test: IntArray


Forecast = Callable[[IntArray], Predictions]
"""Rows of the cohort's table -> risk and S at the horizons asked for."""


def fit(name: str, patients: Patients, part: Part, params: TrainParams) -> Forecast:
    """Fit one model on a training part; `params.seed` decides what is drawn, `params.horizons_months` where S stands.

    Raises
        UsageError: there is no model of that name.
        DataError: the training part cannot be learned from.
    """
    if name in NETWORKS:
        return network_forecast(fit_network(name, patients, part, params), patients, params.horizons_months)
    if name not in baselines.REGISTRY:
        raise UsageError(f"no model {name!r}", "the study", did_you_mean(name, NAMES))
    months, model = np.array(params.horizons_months), baselines.create(name)
    model.fit(patients.inputs.rows(part.train), params.seed)
    return lambda rows: Predictions(*model.predict(patients.inputs.rows(rows), months))


def fit_network(name: str, patients: Patients, part: Part, params: TrainParams) -> TrainedModel:
    """One network, trained by the loop of `mcti train` for its fixed number of epochs."""
    share = params.cox_weight if name == ENSEMBLE else 0.0
    settings = params.model_copy(update={"preset": NETWORKS[name], "cox_weight": share})
    where = f"{name}, fold {part.fold}"
    task = folding.prepare(patients.data, patients.bags(part.train), settings, ("fold", part.fold), where)
    return train(task).model


def network_forecast(model: TrainedModel, patients: Patients, months: Sequence[float]) -> Forecast:
    """The forecast of a trained network."""
    return lambda rows: predict_bags(model, patients.bags(rows), months)


def predict_bags(model: TrainedModel, bags: Sequence[PatientBag], months: Sequence[float]) -> Predictions:
    """Risk and S(t) of these patients, one at a time."""
    rows: list[dict[str, Any]] = fold_files.predict(model, bags, months)
    columns = [survival_column(t) for t in months]
    return Predictions(np.array([r["risk"] for r in rows]), np.array([[r[c] for c in columns] for r in rows]))
