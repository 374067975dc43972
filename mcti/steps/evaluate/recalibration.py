"""The survival curves before and after their recalibration inside the training parts."""

from collections.abc import Sequence
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
    models: Location, outcomes: Outcomes, mcti: Predictions, usable: FloatArray, params: EvaluateParams
) -> dict[str, dict[str, Any]]:
    """{before, after: {slope_<t>, intercept_<t>, ici_<t>, ibs: {value, low, high}, d_calibration: {p}}}.

    At the last usable horizon; empty without recalibration. Reads models/fold_<k>/uncalibrated.csv.
    usable (h,)  horizons that can be scored, months

    Raises
        DataError when some folds have the file and others do not, and for a row as `predictions.checked`
    """
    horizons = np.array(sorted(params.horizons_months))
    before = _read_uncalibrated(models, outcomes, horizons)
    if before is None or not len(usable):
        return {}
    draws = Draws.sample(outcomes.event, params.bootstrap, params.seed, outcomes.tested)
    selected = np.isin(horizons, usable)
    sides = {"before": before[:, selected], "after": mcti.survival[:, selected]}
    return {
        name: _metrics(outcomes, Predictions(mcti.risk, survival), usable, draws) for name, survival in sides.items()
    }


def is_pretrained(models: Location, folds: Sequence[int]) -> bool:
    """Whether `mcti pretrain` trained the folds; reads the digests of the cohorts in models/fold_<k>/model.json."""
    files = (storage.join(models, f"fold_{number}", "model.json") for number in folds)
    return any("cohorts" in storage.read_json(file).get("digests", {}) for file in files if storage.exists(file))


def _metrics(outcomes: Outcomes, side: Predictions, usable: FloatArray, draws: Draws) -> dict[str, Any]:
    no_subtype = np.full(len(outcomes.patient_ids), "")  # rankings do not change, so C within subtype is not needed
    statistics = scores.model_statistics(outcomes, side, usable, no_subtype)
    names = [f"{name}_{usable[-1]:g}" for name in ("slope", "intercept", "ici")] + ["ibs"]
    numbers = {name: interval(statistics[name], draws.matching(statistics[name])).as_dict() for name in names}
    p = calibration.d_calibration(outcomes, side.survival, usable).p
    return {**numbers, "d_calibration": {"p": finite(p)}}


def _read_uncalibrated(models: Location, outcomes: Outcomes, horizons: FloatArray) -> FloatArray | None:
    """(m, h) S of every test row before recalibration; None where no fold has the file."""
    files = [storage.join(models, f"fold_{fold.number}", "uncalibrated.csv") for fold in outcomes.folds]
    exists = [storage.exists(file) for file in files]
    if not any(exists):
        return None
    if not all(exists):
        hint = "train all folds with one train.recalibration_folds (mcti train)"
        raise DataError("uncalibrated.csv is missing", files[exists.index(False)], hint)
    tested = ([outcomes.patient_ids[row] for row in fold.patients] for fold in outcomes.folds)
    columns = predictions.survival_columns(horizons)
    return np.concatenate(
        [
            predictions.checked(predictions.read_csv(file), names, columns, file)
            for file, names in zip(files, tested, strict=True)
        ]
    )
