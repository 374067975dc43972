"""Out-of-fold predictions: read from the models of the folds, checked row by row, written as tables."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mcti import storage
from mcti.arrays import FloatArray
from mcti.cohort import left_truncation
from mcti.errors import DataError
from mcti.evaluation.outcomes import Fold, Outcomes
from mcti.storage import Location

_ROUNDING = 1e-6
"""Rounding error allowed for a survival probability in single precision: beyond 0 or 1, or above an earlier value."""


@dataclass(frozen=True)
class Predictions:
    """The predictions of one model for every test row.

    risk (m,)            higher means an earlier event; no unit
    survival (m, h)      probability of being without the event up to each horizon
    subtypes (m, classes)  probability of each subtype; None where the model does not predict it
    """

    risk: FloatArray
    survival: FloatArray
    subtypes: pd.DataFrame | None = None


def survival_column(months: float) -> str:
    """`S_36` for 36 months, `S_7.5` for 7.5."""
    return f"S_{months:g}"


def read_models(models: Location, outcomes: Outcomes, horizons: FloatArray) -> Predictions:
    """Predictions of the test patients from `models/fold_<k>/predictions.csv`; horizons (h,) months.

    Raises
        DataError when a file, a column, a test patient or a number is missing, or a patient occurs twice
    """
    parts = [_read_fold(models, outcomes, fold, horizons) for fold in outcomes.folds]
    tables = [p.subtypes for p in parts if p.subtypes is not None]
    subtypes = pd.concat(tables, ignore_index=True) if len(tables) == len(parts) and tables else None
    risk, survival = np.concatenate([p.risk for p in parts]), np.concatenate([p.survival for p in parts])
    return Predictions(risk, survival, subtypes)


def table(outcomes: Outcomes, predicted: Predictions, horizons: FloatArray) -> pd.DataFrame:
    """Table patient_id, fold, risk, S_<months>: one row per test row, sorted by patient and fold."""
    frame = pd.DataFrame(
        {
            "patient_id": np.array(outcomes.patient_ids)[outcomes.patient],
            "fold": outcomes.fold_number,
            "risk": predicted.risk,
        }
    )
    for column, months in enumerate(horizons):
        frame[survival_column(float(months))] = predicted.survival[:, column]
    return frame.sort_values(["patient_id", "fold"], kind="stable")


def with_outcomes(outcomes: Outcomes, predicted: Predictions, horizons: FloatArray) -> pd.DataFrame:
    """`table` with the additional columns time_months and event, and entry_months where patients enter late."""
    frame = table(outcomes, predicted, horizons)
    frame["time_months"] = outcomes.time_months[outcomes.patient][frame.index]
    frame["event"] = outcomes.event[outcomes.patient][frame.index].astype(np.int64)
    if outcomes.entry_months is not None:
        frame[left_truncation.COLUMN] = outcomes.entry_months[outcomes.patient][frame.index]
    return frame


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write the rows as UTF-8 with `\\n` and full float precision, so that reading returns the same numbers."""
    path.write_text(frame.to_csv(index=False, lineterminator="\n"), encoding="utf-8")


def _read_fold(models: Location, outcomes: Outcomes, fold: Fold, horizons: FloatArray) -> Predictions:
    where = storage.join(models, f"fold_{fold.number}", "predictions.csv")
    expected = [outcomes.patient_ids[i] for i in fold.patients]
    frame = read_csv(where)
    # A model without a subtype task writes no P_ columns; then there is no subtype score.
    classes, curve = [str(name) for name in frame if str(name).startswith("P_")], survival_columns(horizons)
    numbers = checked(frame, expected, ["risk", *curve, *classes], where)
    if "fold" in frame and (other := frame.loc[frame["fold"] != str(fold.number), "fold"]).size:
        hint = "restore the folder of this fold, or train the fold again (mcti train)"
        raise DataError(f"a row belongs to fold {other.iloc[0]}, not {fold.number}", where, hint)
    risk, survival, shares = np.split(numbers, [1, 1 + len(curve)], axis=1)
    subtypes = pd.DataFrame(shares, columns=[name.removeprefix("P_") for name in classes]) if classes else None
    return Predictions(risk[:, 0], survival, subtypes)


def survival_columns(horizons: FloatArray) -> list[str]:
    """Names of the survival columns of `horizons` (h,) in months, in their order."""
    return [survival_column(float(months)) for months in horizons]


def checked(frame: pd.DataFrame, expected: list[str], names: list[str], where: str) -> FloatArray:
    """(m, len(names)) numbers of the expected patients, in their order, from the result of `read_csv`.

    names  `risk`, survival columns by rising months, probabilities of subtypes

    Raises
        DataError when a column or a patient is missing, or a patient occurs twice or is not expected
        DataError when a value is not a number, or a survival curve leaves [0, 1] or rises
    """
    _check_columns(frame, names, where)
    _check_patients(frame, expected, where)
    rows = frame.set_index("patient_id").loc[expected]
    numbers = np.column_stack([_numbers(rows[name], where) for name in names])
    curves = [k for k, name in enumerate(names) if name.startswith("S_")]
    rises = np.diff(numbers[:, curves], axis=1) > _ROUNDING
    if rises.any():
        row, k = (int(positions[0]) for positions in np.nonzero(rises))
        what = f"{names[curves[k + 1]]} is above {names[curves[k]]}: a survival curve never rises"
        hint = "train this fold again (mcti train)"
        raise DataError(what, f"{where}, patient {expected[row]}", hint)
    return numbers


def read_csv(where: str) -> pd.DataFrame:
    """A table of text columns.

    Raises
        DataError when the file is not a CSV table
    """
    with storage.local_copy(where) as path:
        try:
            # As text: the number parser of pandas may change the last bit, and the registered model's risk with it.
            return pd.read_csv(path, dtype=str, keep_default_na=False)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise DataError(f"not a CSV table ({error})", where, "train this fold again (mcti train)") from error


def _check_columns(frame: pd.DataFrame, columns: list[str], where: str) -> None:
    missing = [name for name in ["patient_id", *columns] if name not in frame]
    if missing and len(frame.columns) == 1:
        raise DataError("the table has a single column", where, "separate the columns by commas, as mcti train does")
    if missing:
        known = ", ".join(str(c) for c in frame if str(c).startswith("S_")) or "none"
        hint = f"survival columns of the file: {known}; set evaluate.horizons_months to those of train, or train again"
        raise DataError(f"column {missing[0]!r} is missing", where, hint)


def _check_patients(frame: pd.DataFrame, expected: list[str], where: str) -> None:
    names = frame["patient_id"]
    hint = "train this fold again on these folds (mcti train)"
    if (twice := names[names.duplicated()]).size:
        raise DataError(f"patient {twice.iloc[0]} has more than one prediction", where, hint)
    if absent := sorted(set(expected) - set(names)):
        raise DataError(f"test patient {absent[0]} has no prediction ({len(absent)} such patients)", where, hint)
    if foreign := sorted(set(names) - set(expected)):
        raise DataError(
            f"patient {foreign[0]} is not a test patient of this fold ({len(foreign)} such patients)", where, hint
        )


def _numbers(column: pd.Series, where: str) -> FloatArray:
    """A column of text as numbers: finite, and between 0 and 1 for a survival probability."""
    numbers = np.empty(len(column))
    is_risk = column.name == "risk"
    for row, (patient, text) in enumerate(column.items()):
        try:
            numbers[row] = float(text)
        except ValueError:
            numbers[row] = np.nan
        if not (np.isfinite(numbers[row]) if is_risk else -_ROUNDING <= numbers[row] <= 1 + _ROUNDING):
            raise DataError(
                f"{column.name} is {text!r}, {'not a finite number' if is_risk else 'not in [0, 1]'}",
                f"{where}, patient {patient}",
                "train this fold again (mcti train)",
            )
    return numbers
