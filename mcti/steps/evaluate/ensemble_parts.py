"""The two parts of the trained ensemble, network and Cox model, on the test patients: predictions and attribution."""

import copy
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from mcti import storage
from mcti.arrays import FloatArray
from mcti.dataset.loading import CohortTables
from mcti.evaluation import attribution_shares
from mcti.evaluation.attribution_shares import AttributionShares
from mcti.evaluation.outcomes import Fold, Outcomes
from mcti.evaluation.predictions import Predictions, survival_column
from mcti.model.names import COX, NETWORK
from mcti.model.trained import TrainedModel
from mcti.progress import Progress
from mcti.storage import Location

if TYPE_CHECKING:
    from mcti.dataset.bags import PatientBag

ATTRIBUTION_STEPS = 16
"""Points of the integrated gradients for the shares; `mcti explain` uses more for single patients."""


class FoldModels:
    """The models of all folds, with the bags of their test patients loaded patient by patient.

    `usable` is false where the weights of a fold do not exist, or required features are missing.
    """

    def __init__(self, models: Location, cohort: Location, features: Location | None, outcomes: Outcomes) -> None:
        from mcti.training import fold_files

        self._outcomes = outcomes
        folders = {fold.number: storage.join(models, f"fold_{fold.number}") for fold in outcomes.folds}
        complete = all(storage.exists(storage.join(folder, "weights.safetensors")) for folder in folders.values())
        self._loaded = {number: fold_files.load(folder) for number, folder in folders.items()} if complete else {}
        needs_slides = any("slides" in model.config.modalities for model in self._loaded.values())
        self.usable = complete and not (needs_slides and features is None)
        genes = list(next(iter(self._loaded.values())).config.genes) if self.usable else []
        self._tables = CohortTables.read(cohort, features, genes or None) if self.usable else None

    def is_ensemble(self) -> bool:
        """Whether the model of every fold combines a network and a Cox model, with a weight between 0 and 1."""
        return self.usable and all(0 < _cox_weight(model) < 1 for model in self._loaded.values())

    def predict_parts(self, horizons: FloatArray, progress: Progress | None = None) -> dict[str, Predictions]:
        """Predictions of the network alone and of the Cox part alone for every test row; empty without an ensemble.

        Without the recalibration of the curves, which was fitted on the ensemble. horizons (h,) months.
        """
        if not self.is_ensemble():
            return {}
        rows: dict[str, list[list[float]]] = {NETWORK: [], COX: []}
        total, done = len(self._outcomes.patient), 0
        for fold in self._outcomes.folds:
            model = _network_alone(self._loaded[fold.number])
            for bag in self._bags(fold):
                for name, predict in ((NETWORK, model.predict), (COX, model.predict_cox_part)):
                    row = predict(bag.patches, bag.genes, horizons.tolist(), bag.clinical)
                    rows[name].append([row["risk"], *(row[survival_column(float(months))] for months in horizons)])
                done += 1
                if progress is not None:
                    progress(done, total, "test patients by network and Cox part")
        tables = {name: np.array(values) for name, values in rows.items()}
        return {name: Predictions(table[:, 0], table[:, 1:]) for name, table in tables.items()}

    def attribution_shares(self, patients: int) -> AttributionShares | None:
        """Shares of the attribution by part, over `patients` test patients spread evenly over the test rows.

        None for models without an attribution (not MCTI), without models, and for 0 patients.
        """
        from mcti.model.attribution import attribute
        from mcti.model.network import MCTI

        if not self.usable or not patients or any(not isinstance(m.net, MCTI) for m in self._loaded.values()):
            return None
        chosen = set(np.linspace(0, len(self._outcomes.patient) - 1, patients).round().astype(int).tolist())
        tokens = []
        for fold, part in self._outcomes.parts():
            rows = [row for row in range(part.start, part.stop) if row in chosen]
            model = self._loaded[fold.number]
            for bag in self._bags(fold, rows):
                attribution = attribute(model, bag.patches, bag.genes, bag.clinical, steps=ATTRIBUTION_STEPS)
                tokens.append(attribution.tokens)
        return attribution_shares.shares(tokens)

    def _bags(self, fold: Fold, rows: list[int] | None = None) -> Iterator["PatientBag"]:
        """The bags of the test patients of a fold, in order; rows: only these of all test rows."""
        assert self._tables is not None
        model, ids = self._loaded[fold.number], self._outcomes.patient_ids
        chosen = fold.patients if rows is None else self._outcomes.patient[rows]
        for patient in chosen:
            data = self._tables.load([ids[patient]]).restricted_to(_modalities(model))
            yield data.bags[ids[patient]]


def _cox_weight(model: TrainedModel) -> float:
    return 0.0 if model.net.cox_branch is None else float(model.net.cox_branch.cox_weight)


def _modalities(model: TrainedModel) -> str:
    modalities = model.config.modalities
    return "both" if len(modalities) > 1 else modalities[0]


def _network_alone(model: TrainedModel) -> TrainedModel:
    """The model with weight 0 for its Cox model, and with its curves before recalibration."""
    net = copy.deepcopy(model.net)
    assert net.cox_branch is not None
    net.cox_branch.cox_weight.fill_(0)
    return TrainedModel(net, model.config, dataclasses.replace(model.fitted, recalibration=None))
