"""The survival curves before and after their recalibration inside the training parts, side by side."""

from typing import Any

import numpy as np

from mcti import storage
from mcti.arrays import FloatArray
from mcti.errors import DataError
from mcti.evaluation import calibration, predictions, scores
from mcti.evaluation.comparison import Draws, finite, interval
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.params import EvaluateParams
from mcti.storage import Location


def compare(
    models: Location, outcomes: Outcomes, ours: Predictions, usable: FloatArray, params: EvaluateParams
) -> dict[str, dict[str, Any]]:
    """{before, after: {slope_<t>, intercept_<t>, ici_<t>, ibs: {value, low, high}, d_calibration: {p}}} at the last
    usable horizon; empty where no fold's curves were recalibrated.

    models  with fold_<k>/uncalibrated.csv;  usable  (h,) horizons that can be scored
    Raises  DataError when one fold has the file and another has not, or for a row as `predictions.checked`
    """
    horizons = np.array(sorted(params.horizons_months))
    before = _read(models, outcomes, horizons)
    if before is None or not len(usable):
        return {}
    draws = Draws.sample(outcomes.event, params.bootstrap, params.seed, outcomes.tested)
    chosen = np.isin(horizons, usable)
    sides = {"before": before[:, chosen], "after": ours.survival[:, chosen]}
    return {name: _metrics(outcomes, ours.risk, survival, usable, draws, params) for name, survival in sides.items()}


def _metrics(
    outcomes: Outcomes, risk: FloatArray, survival: FloatArray, usable: FloatArray, draws: Draws, params: EvaluateParams
) -> dict[str, Any]:
    nobody = np.full(len(outcomes.patient_ids), "")  # rankings do not change: their subtype is not asked for
    found = scores.model_statistics(outcomes, Predictions(risk, survival), usable, nobody, params)
    names = [f"{name}_{usable[-1]:g}" for name in ("slope", "intercept", "ici")] + ["ibs"]
    told = {name: interval(found[name], draws.matching(found[name]), params.confidence).as_dict() for name in names}
    return {**told, "d_calibration": {"p": finite(calibration.d_calibration(outcomes, survival, usable).p)}}


def _read(models: Location, outcomes: Outcomes, horizons: FloatArray) -> FloatArray | None:
    """(m, h) S of every test row as the networks gave it; None where no fold says."""
    files = [storage.join(models, f"fold_{fold.number}", "uncalibrated.csv") for fold in outcomes.folds]
    there = [storage.exists(file) for file in files]
    if not any(there):
        return None
    if not all(there):
        hint = "train all folds with one train.recalibration_folds (mcti train)"
        raise DataError("uncalibrated.csv is missing", files[there.index(False)], hint)
    tested = ([outcomes.patient_ids[row] for row in fold.patients] for fold in outcomes.folds)
    columns = predictions.survival_columns(horizons)
    return np.concatenate(
        [
            predictions.checked(predictions.read_csv(file), names, columns, file)
            for file, names in zip(files, tested, strict=True)
        ]
    )
