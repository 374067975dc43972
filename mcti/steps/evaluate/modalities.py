"""The same patients predicted from both modalities, from slides only and from genes only."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mcti import storage
from mcti.arrays import FloatArray
from mcti.errors import DataError
from mcti.evaluation import metrics, predictions, scores
from mcti.evaluation.comparison import Draws, interval
from mcti.evaluation.outcomes import Fold, Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.params import EvaluateParams
from mcti.storage import Location

BOTH, SINGLE = "both", ("genes_only", "slides_only")


def compare(
    single: pd.DataFrame | None,
    patients: pd.DataFrame,
    outcomes: Outcomes,
    mcti: Predictions,
    params: EvaluateParams,
) -> dict[str, dict[str, Any]]:
    """{regime: {patients, events, c_index, …: {value, low, high}}} on the test patients who have both modalities.

    single  the predictions from one modality (`read`); without them the result is empty
    mcti    predictions of all test rows, S at the horizons of `params`
    """
    if single is None:
        return {}
    horizons = np.array(sorted(params.horizons_months))
    columns = ["risk", *predictions.survival_columns(horizons)]
    index = [outcomes.fold_number, np.array(outcomes.patient_ids)[outcomes.patient]]
    frames = {BOTH: pd.DataFrame(np.column_stack([mcti.risk, mcti.survival]), index=index, columns=columns)}
    frames |= {
        str(regime): rows.set_index(["fold", "patient_id"])[columns] for regime, rows in single.groupby("regime")
    }
    shared = _with_both(patients, outcomes, frames)
    return {regime: _metrics(shared, frame, horizons, params) for regime, frame in frames.items()}


def read(models: Location, outcomes: Outcomes, horizons: FloatArray) -> pd.DataFrame | None:
    """models/fold_<k>/regimes.csv of all folds: fold, patient_id, regime, risk, and S at `horizons` in months.

    None where no fold has the file, because the models need both modalities.

    Raises
        DataError when some folds have the file and others do not, or a regime lacks a patient of the other
        DataError for a row as `predictions.checked`
    """
    columns = ["risk", *predictions.survival_columns(horizons)]
    files = [storage.join(models, f"fold_{fold.number}", "regimes.csv") for fold in outcomes.folds]
    exists = [storage.exists(file) for file in files]
    if not any(exists):
        return None
    if not all(exists):
        raise DataError("regimes.csv is missing", files[exists.index(False)], "train this fold again (mcti train)")
    return pd.concat(
        [_read_fold(file, fold, outcomes, columns) for file, fold in zip(files, outcomes.folds, strict=True)],
        ignore_index=True,
    )


def _read_fold(file: str, fold: Fold, outcomes: Outcomes, columns: list[str]) -> pd.DataFrame:
    """One regimes.csv; both regimes have the same test patients and are checked like predictions."""
    table, hint = predictions.read_csv(file), "train this fold again (mcti train)"
    tested = [outcomes.patient_ids[row] for row in fold.patients]
    if missing := {"patient_id", "regime"} - set(table):
        raise DataError(f"column {min(missing)!r} is missing", file, hint)
    if unexpected := sorted(set(table["regime"]) ^ set(SINGLE)):
        problem = "missing" if unexpected[0] in SINGLE else "unknown"
        raise DataError(f"regime {unexpected[0]!r} is {problem}", file, hint)
    in_table = set(table["patient_id"])
    both = [patient for patient in tested if patient in in_table]
    parts = []
    for regime, rows in table.groupby("regime"):
        numbers = predictions.checked(rows, both, columns, f"{file}, regime {regime}")
        parts.append(pd.DataFrame(numbers, columns=columns).assign(patient_id=both, regime=regime, fold=fold.number))
    return pd.concat(parts)


def _with_both(patients: pd.DataFrame, outcomes: Outcomes, frames: Mapping[str, pd.DataFrame]) -> Outcomes:
    """The folds with the test patients that every regime predicts; their training parts do not change."""
    common = set.intersection(*(set(frame.index) for frame in frames.values()))
    ids = outcomes.patient_ids
    parts = {
        fold.number: (
            [ids[row] for row in fold.train_patients],
            [ids[row] for row in fold.patients if (fold.number, ids[row]) in common],
        )
        for fold in outcomes.folds
    }
    return Outcomes.from_folds(patients, {number: part for number, part in parts.items() if part[1]})


def _metrics(shared: Outcomes, frame: pd.DataFrame, horizons: FloatArray, params: EvaluateParams) -> dict[str, Any]:
    keys = list(zip(shared.fold_number.tolist(), np.array(shared.patient_ids)[shared.patient].tolist(), strict=True))
    numbers = frame.loc[keys].to_numpy(dtype=np.float64)
    usable = metrics.usable_horizons(shared, horizons)
    regime = Predictions(numbers[:, 0], numbers[:, 1:][:, usable])
    no_subtype = np.full(len(shared.patient_ids), "")  # C within subtype is reported for all test patients only
    statistics = scores.model_statistics(shared, regime, horizons[usable], no_subtype)
    draws = Draws.sample(shared.event, params.bootstrap, params.seed, shared.tested)
    selected = {name: statistics[name] for name in ("c_index", "uno_c", "ibs") if name in statistics}
    return {
        "patients": len(shared.tested),
        "events": int(shared.tested_event.sum()),
        **{name: interval(one, draws.matching(one)).as_dict() for name, one in selected.items()},
    }
