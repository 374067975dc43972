"""The same patients by both modalities, by slides only and by genes only: what each is worth, side by side."""

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

BOTH, ALONE = "both", ("genes_only", "slides_only")


def compare(
    models: Location, patients: pd.DataFrame, outcomes: Outcomes, ours: Predictions, params: EvaluateParams
) -> dict[str, dict[str, Any]]:
    """{regime: {patients, events, c_index, …: {value, low, high}}} on the test patients who have both modalities.

    models  with fold_<k>/regimes.csv where they can do without a modality; empty where they cannot
    ours    the predictions of all test rows, S at the horizons of `params`
    Raises  DataError when one fold has the file and another has not, when a regime of a fold lacks a patient that the
            other has, or for a row as `predictions.checked`
    """
    horizons = np.array(sorted(params.horizons_months))
    columns = ["risk", *predictions.survival_columns(horizons)]
    alone = _read(models, outcomes, columns)
    if alone is None:
        return {}
    index = [outcomes.fold_number, np.array(outcomes.patient_ids)[outcomes.patient]]
    frames = {BOTH: pd.DataFrame(np.column_stack([ours.risk, ours.survival]), index=index, columns=columns)}
    frames |= {str(regime): rows.set_index(["fold", "patient_id"])[columns] for regime, rows in alone.groupby("regime")}
    shared = _those_with_both(patients, outcomes, frames)
    return {regime: _metrics(shared, frame, horizons, params) for regime, frame in frames.items()}


def _read(models: Location, outcomes: Outcomes, columns: list[str]) -> pd.DataFrame | None:
    """All folds' regimes.csv: fold, patient_id, regime and `columns` as numbers; None where no fold has one."""
    files = [storage.join(models, f"fold_{fold.number}", "regimes.csv") for fold in outcomes.folds]
    there = [storage.exists(file) for file in files]
    if not any(there):
        return None
    if not all(there):
        raise DataError("regimes.csv is missing", files[there.index(False)], "train this fold again (mcti train)")
    return pd.concat(
        [_fold(file, fold, outcomes, columns) for file, fold in zip(files, outcomes.folds, strict=True)],
        ignore_index=True,
    )


def _fold(file: str, fold: Fold, outcomes: Outcomes, columns: list[str]) -> pd.DataFrame:
    """One regimes.csv, each regime of the same test patients and checked as predictions are."""
    table, hint = predictions.read_csv(file), "train this fold again (mcti train)"
    tested = [outcomes.patient_ids[row] for row in fold.patients]
    if missing := {"patient_id", "regime"} - set(table):
        raise DataError(f"column {min(missing)!r} is missing", file, hint)
    if odd := sorted(set(table["regime"]) ^ set(ALONE)):
        raise DataError(f"regime {odd[0]!r} is " + ("missing" if odd[0] in ALONE else "unknown"), file, hint)
    there = set(table["patient_id"])
    both = [patient for patient in tested if patient in there]
    parts = []
    for regime, rows in table.groupby("regime"):
        numbers = predictions.checked(rows, both, columns, f"{file}, regime {regime}")
        parts.append(pd.DataFrame(numbers, columns=columns).assign(patient_id=both, regime=regime, fold=fold.number))
    return pd.concat(parts)


def _those_with_both(patients: pd.DataFrame, outcomes: Outcomes, frames: dict[str, pd.DataFrame]) -> Outcomes:
    """The folds with the test patients that every regime predicts; their training parts stay whole."""
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
    predicted = Predictions(numbers[:, 0], numbers[:, 1:][:, usable])
    subtype = np.full(len(shared.patient_ids), "")  # C within subtype is told of the whole test part alone
    found = scores.model_statistics(shared, predicted, horizons[usable], subtype, params)
    draws = Draws.sample(shared.event, params.bootstrap, params.seed, shared.tested)
    wanted = {name: found[name] for name in ("c_index", "uno_c", "ibs") if name in found}
    rows = shared.patient
    return {
        "patients": len(np.unique(rows)),
        "events": int(shared.event[np.unique(rows)].sum()),
        **{name: interval(one, draws.matching(one), params.confidence).as_dict() for name, one in wanted.items()},
    }
