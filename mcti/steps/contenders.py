"""Every model of a comparison by one name, fitted on one training part: tables, trees, networks, MCTI, the stack.

`evaluate` scores one trained model against the baselines of tables; a study asks for all of these on the same folds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mcti.errors import UsageError, did_you_mean
from mcti.evaluation import baselines
from mcti.evaluation.cox import CoxModel, choose_penalty, fit_ridge, inner_folds
from mcti.evaluation.curves import Bools, Floats, Ints
from mcti.evaluation.design import Inputs
from mcti.evaluation.predictions import Predicted
from mcti.model.trained import TrainedModel, survival_column
from mcti.model.variants import ABLATIONS, PEERS
from mcti.params import TrainParams
from mcti.training import fold_files
from mcti.training import folds as folding
from mcti.training.bags import PatientBag
from mcti.training.folds import Dataset
from mcti.training.loop import train

NETWORKS: Mapping[str, str] = {"mcti": "compact", **{name: name for name in (*PEERS, *ABLATIONS)}}
"""Name -> `train.preset`. All else is the same for all of them: settings, folds, covariates."""
STACK = "stack"
NAMES = (*baselines.REGISTRY, *NETWORKS, STACK)
STACK_FOLDS = 3
PENALTIES = np.array([0.1, 1.0, 10.0, 100.0])
"""Of the stack's coefficients, in units of events."""
DIFFERENCE = 10.0
"""How much harder the penalty falls on the difference of the two than on their sum."""


@dataclass(frozen=True)
class Patients:
    """A cohort as tables and as bags; rows of `inputs` are the patients of `data` in the order of the table."""

    inputs: Inputs
    data: Dataset

    def bags(self, rows: Ints) -> list[PatientBag]:
        """The bags of these rows."""
        return self.data.choose([str(name) for name in self.inputs.patients["patient_id"].iloc[rows]], "the study")


@dataclass(frozen=True)
class Part:
    """One fold by rows of the cohort's table: who is learned from, who is predicted, and its number."""

    fold: int
    train: Ints
    test: Ints


Forecast = Callable[[Ints], Predicted]
"""Rows of the cohort's table -> risk and S at the horizons asked for."""


def fit(name: str, patients: Patients, part: Part, params: TrainParams) -> Forecast:
    """Fit one model on a training part; `params.seed` decides what is drawn, `params.horizons_months` where S stands.

    Raises
        UsageError: there is no model of that name.
        DataError: the training part cannot be learned from.
    """
    if name in NETWORKS:
        return network_forecast(fit_network(name, patients, part, params), patients, params.horizons_months)
    if name == STACK:
        return Stack.fit(patients, part, params).forecast(patients, params.horizons_months)
    if name not in baselines.REGISTRY:
        raise UsageError(f"no model {name!r}", "the study", did_you_mean(name, NAMES))
    months, model = np.array(params.horizons_months), baselines.make(name)
    model.fit(patients.inputs.rows(part.train), params.seed)
    return lambda rows: Predicted(*model.predict(patients.inputs.rows(rows), months))


def fit_network(name: str, patients: Patients, part: Part, params: TrainParams) -> TrainedModel:
    """One network, trained by the loop of `mcti train` for its fixed number of epochs."""
    settings = params.model_copy(update={"preset": NETWORKS[name]})
    where = f"{name}, fold {part.fold}"
    task = folding.prepare(patients.data, patients.bags(part.train), settings, ("fold", part.fold), where)
    return train(task).model


def network_forecast(model: TrainedModel, patients: Patients, months: Sequence[float]) -> Forecast:
    """The forecast of a trained network."""
    return lambda rows: predict_bags(model, patients.bags(rows), months)


def predict_bags(model: TrainedModel, bags: Sequence[PatientBag], months: Sequence[float]) -> Predicted:
    """Risk and S(t) of these patients, one at a time."""
    rows: list[dict[str, Any]] = fold_files.predict(model, bags, months)
    columns = [survival_column(t) for t in months]
    return Predicted(np.array([r["risk"] for r in rows]), np.array([[r[c] for c in columns] for r in rows]))


@dataclass(frozen=True)
class Stack:
    """MCTI and the all-linear Cox model, weighed by what each says of patients that it has not seen.

    Inside the training part, three inner folds: MCTI and the linear model are fitted on two of them and predict the
    third; the out-of-fold risks, standardised, are the two columns of a Cox regression (`weigh`; Breiman 1996, Mach.
    Learn. 24:49-64). A new patient's columns come from the two models fitted on the whole training part.
    """

    network: TrainedModel
    linear: baselines.Baseline
    scales: Floats  # (2, 2) mean and sd of MCTI's out-of-fold risks (mean over the inner folds), of the linear ones
    cox: CoxModel

    @classmethod
    def fit(cls, patients: Patients, part: Part, params: TrainParams) -> "Stack":
        """Inner models, then the two coefficients; nobody outside the training part has a say."""
        inputs, months = patients.inputs.rows(part.train), np.array(params.horizons_months)
        place = inner_folds(inputs.event, STACK_FOLDS, params.seed)
        columns, scales = np.zeros((len(part.train), 2)), []
        for k in range(STACK_FOLDS):
            kept, left = np.flatnonzero(place != k), np.flatnonzero(place == k)
            inner = Part(part.fold, part.train[kept], part.train[left])
            settings = params.model_copy(update={"seed": params.seed * STACK_FOLDS + k})
            network = fit_network("mcti", patients, inner, settings)
            risk = network_forecast(network, patients, params.horizons_months)(inner.test).risk
            scales.append(_scale(risk))
            columns[left, 0] = (risk - scales[-1][0]) / scales[-1][1]
            linear = baselines.make("linear_all").fit(inputs.rows(kept), params.seed)
            columns[left, 1] = linear.predict(inputs.rows(left), months)[0]
        mean, sd = _scale(columns[:, 1])
        columns[:, 1] = (columns[:, 1] - mean) / sd
        cox = weigh(columns, inputs.event, inputs.time_months, params.seed)
        whole = baselines.make("linear_all").fit(inputs, params.seed)
        network = fit_network("mcti", patients, part, params)
        return cls(network, whole, np.array([np.mean(scales, axis=0), (mean, sd)]), cox)

    def forecast(self, patients: Patients, months: Sequence[float]) -> Forecast:
        """The forecast of the stack."""
        return lambda rows: self._predict(patients, rows, np.array(months))

    def _predict(self, patients: Patients, rows: Ints, months: Floats) -> Predicted:
        network = predict_bags(self.network, patients.bags(rows), list(months)).risk
        linear = self.linear.predict(patients.inputs.rows(rows), months)[0]
        table = (np.column_stack([network, linear]) - self.scales[:, 0]) / self.scales[:, 1]
        return Predicted(self.cox.risk(table), self.cox.survival(table, months))


def _scale(risk: Floats) -> tuple[float, float]:
    """Mean and sd; an sd of 0 would divide by nothing."""
    return float(risk.mean()), max(float(risk.std()), 1e-12)


def weigh(columns: Floats, event: Bools, time_months: Floats, seed: int) -> CoxModel:
    """Ridge Cox on two standardised columns, drawn towards equal weights, none below 0.

    With a hundred events fitted weights are noisier than equal ones are wrong (Smith and Wallis 2009, Oxford Bull.
    Econ. Stat. 71:331-355). So the penalty falls on the difference of the two coefficients ten times as hard as on
    their sum. Where a column still gets a coefficient below 0, it is dropped.
    """
    turn = np.array([[0.5, 0.5], [0.5, -0.5]]) * np.array([1.0, DIFFERENCE**-0.5])  # columns: sum, shrunk difference
    table = columns @ turn
    penalty = choose_penalty(table, event, time_months, PENALTIES, baselines.INNER_FOLDS, seed)
    found = fit_ridge(table, event, time_months, penalty)
    weights = turn @ found.coefficients
    if (weights >= 0).all():
        return replace(found, coefficients=weights)
    return fit_ridge(columns * (weights >= 0), event, time_months, penalty)
