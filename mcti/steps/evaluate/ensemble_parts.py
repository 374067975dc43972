"""The two parts of the trained ensemble of network and Cox model, on the test patients: predictions and attribution."""

import copy
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from mcti import storage
from mcti.arrays import FloatArray
from mcti.dataset.loading import CohortTables
from mcti.evaluation import attribution_shares as naming
from mcti.evaluation.attribution_shares import AttributionShares
from mcti.evaluation.outcomes import Fold, Outcomes
from mcti.evaluation.predictions import Predictions, survival_column
from mcti.model.names import COX, NETWORK
from mcti.model.trained import TrainedModel
from mcti.storage import Location

if TYPE_CHECKING:
    from mcti.dataset.bags import PatientBag

STEPS = 16
"""Points of the integrated gradients behind the shares; `mcti explain` takes more, for single patients."""

Progress = Callable[[int, int, str], None]


class Models:
    """The models of all folds with the bags of their test patients, read patient by patient.

    `usable` is False where the weights of a fold are not there, or features are needed and none were given.
    """

    def __init__(self, models: Location, cohort: Location, features: Location | None, outcomes: Outcomes) -> None:
        from mcti.training import fold_files

        self._outcomes = outcomes
        folders = {fold.number: storage.join(models, f"fold_{fold.number}") for fold in outcomes.folds}
        there = all(storage.exists(storage.join(place, "weights.safetensors")) for place in folders.values())
        self._loaded = {number: fold_files.load(place) for number, place in folders.items()} if there else {}
        needs = any("slides" in model.config.modalities for model in self._loaded.values())
        self.usable = there and not (needs and features is None)
        genes = list(next(iter(self._loaded.values())).config.genes) if self.usable else []
        self._tables = CohortTables.read(cohort, features, genes or None) if self.usable else None

    def mixed(self) -> bool:
        """Whether every fold's model has a Cox model beside its network, neither at weight 0 nor at 1."""
        return self.usable and all(0 < _share(model) < 1 for model in self._loaded.values())

    def predict(self, horizons: FloatArray, progress: Progress | None = None) -> dict[str, Predictions]:
        """Network alone and Cox part alone on every test row, as `predictions.read_models` gives the whole.

        Without the recalibration of the curves, which was fitted on the whole. Empty where nothing is mixed.
        """
        if not self.mixed():
            return {}
        weights = {NETWORK: 0.0, COX: 1.0}
        rows: dict[str, list[list[float]]] = {name: [] for name in weights}
        total, done = len(self._outcomes.patient), 0
        for fold in self._outcomes.folds:
            alone = {name: _alone(self._loaded[fold.number], share) for name, share in weights.items()}
            for bag in self._bags(fold):
                for name, model in alone.items():
                    rows[name].append(_row(model, bag, horizons))
                done += 1
                if progress is not None:
                    progress(done, total, "test patients by network and Cox part")
        tables = {name: np.array(values) for name, values in rows.items()}
        return {name: Predictions(table[:, 0], table[:, 1:]) for name, table in tables.items()}

    def shares(self, patients: int) -> AttributionShares | None:
        """Shares of the attribution by part, over so many test patients, spread evenly over the test rows.

        None where the models are no MCTI, without models, and for 0 patients.
        """
        from mcti.model.attribution import attribute
        from mcti.model.network import MCTI

        if not self.usable or not patients or any(not isinstance(m.net, MCTI) for m in self._loaded.values()):
            return None
        chosen = set(np.linspace(0, len(self._outcomes.patient) - 1, patients).round().astype(int).tolist())
        tokens = []
        for fold, part in self._outcomes.parts():
            rows = [row for row in range(part.start, part.stop) if row in chosen]
            for bag in self._bags(fold, rows):
                model = self._loaded[fold.number]
                tokens.append(attribute(model, bag.patches, bag.genes, bag.covariates, steps=STEPS).tokens)
        return naming.shares(tokens)

    def _bags(self, fold: Fold, rows: list[int] | None = None) -> Iterator["PatientBag"]:
        """The bags of the test patients of a fold in their order; rows: only these of all test rows."""
        assert self._tables is not None
        model, ids = self._loaded[fold.number], self._outcomes.patient_ids
        chosen = fold.patients if rows is None else self._outcomes.patient[rows]
        for patient in chosen:
            data = self._tables.load([ids[patient]]).restricted_to(_modalities(model))
            yield data.bags[ids[patient]]


def _share(model: TrainedModel) -> float:
    return 0.0 if model.net.cox_branch is None else float(model.net.cox_branch.cox_weight)


def _modalities(model: TrainedModel) -> str:
    read = model.config.modalities
    return "both" if len(read) > 1 else read[0]


def _alone(model: TrainedModel, share: float) -> TrainedModel:
    """The same model with this weight of the Cox model, its curves as they are before any recalibration."""
    import dataclasses

    net = copy.deepcopy(model.net)
    assert net.cox_branch is not None
    net.cox_branch.cox_weight.fill_(share)
    return TrainedModel(net, model.config, dataclasses.replace(model.fitted, recalibration=None))


def _row(model: TrainedModel, bag: "PatientBag", horizons: FloatArray) -> list[float]:
    found = model.predict(bag.patches, bag.genes, horizons.tolist(), bag.covariates)
    return [found["risk"], *(found[survival_column(float(months))] for months in horizons)]
