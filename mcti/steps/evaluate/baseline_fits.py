"""Input of the baselines from a cohort, and their predictions on every fold."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mcti import storage
from mcti.arrays import FloatArray
from mcti.cohort import tables
from mcti.dataset.loading import slides_with_features
from mcti.errors import DataError
from mcti.evaluation import baselines
from mcti.evaluation.design_matrix import Inputs
from mcti.evaluation.linear_predictor import LinearPredictor, StoredBaselines
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.params import EvaluateParams
from mcti.progress import Progress
from mcti.slides.features import read_slide
from mcti.storage import Location

_NO_ROWS = np.zeros((0, 1))


@dataclass(frozen=True)
class FittedBaselines:
    """The baselines of an evaluation.

    predictions  {name: out-of-fold predictions};  stored  the fitted models that can be stored as numbers
    skipped      {name: reason}
    """

    predictions: dict[str, Predictions]
    stored: StoredBaselines
    skipped: Mapping[str, str]


def read_inputs(cohort: Location, features: Location | None, patients: pd.DataFrame) -> Inputs:
    """Input of the baselines, rows as in `patients`; a patient without expression has missing values."""
    genes = tables.read_expression(cohort).reindex(patients["patient_id"])
    patients = tables.with_levels(patients, tables.read_info(cohort).ordered_levels)
    if features is None:
        return Inputs(patients, genes)
    bags, embeddings = bag_moments(cohort, features, list(patients["patient_id"]))
    return Inputs(patients, genes, bags, embeddings)


def bag_moments(cohort: Location, features: Location, patients: list[str]) -> tuple[FloatArray, bool]:
    """(n, 2 D) mean and standard deviation of each patient's features over all slides, NaN without features; and
    whether the features are embeddings: each file has one row without coordinates.

    Raises
        DataError when no slide of the cohort has features, or the features have different widths
    """
    moments: dict[str, FloatArray] = {}
    embeddings = True
    for patient, names in slides_with_features(cohort, features, patients).items():
        files = [read_slide(storage.join(features, f"{name}.h5")) for name in names]
        embeddings &= all(len(file.features) == 1 and file.coordinates is None for file in files)
        rows = np.concatenate([file.features.astype(np.float64) for file in files if len(file.features)] or [_NO_ROWS])
        if len(rows):
            moments[patient] = np.concatenate([rows.mean(axis=0), rows.std(axis=0)])
    if not moments:
        raise DataError("no slide of the cohort has features", str(features), "extract the slides of this cohort")
    if len(widths := {len(values) // 2 for values in moments.values()}) > 1:
        hint = "extract all slides with one encoder"
        raise DataError(f"the features have different widths: {sorted(widths)}", str(features), hint)
    without_patches = np.full(2 * widths.pop(), np.nan)
    return np.stack([moments.get(patient, without_patches) for patient in patients]), embeddings


def fit_baselines(
    inputs: Inputs, outcomes: Outcomes, params: EvaluateParams, progress: Progress | None = None
) -> FittedBaselines:
    """Every baseline of the settings, fitted on every fold, with its predictions.

    Baselines of embeddings are fitted where the features are embeddings.

    Raises
        UsageError when a baseline does not exist
        DataError when a training part has no event
    """
    from threadpoolctl import threadpool_limits

    models = {name: baselines.create(name) for name in params.baselines}
    if inputs.bags is None or not inputs.embeddings:  # a baseline of other features is no gap of this evaluation
        models = {name: model for name, model in models.items() if not model.needs_embeddings}
    skipped = {
        name: "no slide features were passed" for name, b in models.items() if b.needs_bags and inputs.bags is None
    }
    if inputs.entry_months is not None:
        reason = "its library has no left truncation (entry_months): it would count patients from the origin"
        skipped |= {name: reason for name, model in models.items() if model.from_origin}
    selected = [name for name in models if name not in skipped]
    horizons = np.array(sorted(params.horizons_months))
    fitted: dict[str, Predictions] = {}
    stored: dict[str, list[LinearPredictor]] = {}
    # One thread: a fixed order of summation, so that the last bit does not depend on the load of the machine.
    with threadpool_limits(1):
        for done, name in enumerate(selected):
            if progress is not None:
                progress(done, len(selected), "baselines", name)
            folds = baselines.fit_folds(name, inputs, outcomes, params.seed)
            fitted[name] = baselines.predict_folds(folds, inputs, outcomes, horizons)
            numbers = [model for fold in folds if (model := fold.stored(horizons)) is not None]
            stored |= {name: numbers} if numbers else {}
    if progress is not None:
        progress(len(selected), len(selected), "baselines")
    return FittedBaselines(fitted, StoredBaselines(stored, tuple(map(str, inputs.genes.columns))), skipped)
