"""Out-of-fold predictions: read from the models of the folds, checked row by row, written as tables."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mcti import storage
from mcti.arrays import FloatArray
from mcti.errors import DataError
from mcti.evaluation.outcomes import Fold, Outcomes
from mcti.storage import Location

_ROUNDING = 1e-6
"""So far beyond 0, 1 or its former height a survival probability in single precision may come to lie."""


@dataclass(frozen=True)
class Predictions:
    """What one model says of every test row: risk (m,), higher = earlier event; survival (m, h) at the horizons."""

    risk: FloatArray
    survival: FloatArray
    subtypes: pd.DataFrame | None = None  # (m, classes) probability of each, where the model tells


def survival_column(months: float) -> str:
    """`S_36` for 36 months, `S_7.5` for 7.5."""
    return f"S_{months:g}"


def read_models(models: Location, outcomes: Outcomes, horizons: FloatArray) -> Predictions:
    """Predictions of the test patients from `models/fold_<k>/predictions.csv`.

    Raises
        DataError: a file, a column, a test patient or a number is missing, or a patient stands in it twice.
    """
    parts = [_read_fold(models, outcomes, fold, horizons) for fold in outcomes.folds]
    told = [p.subtypes for p in parts if p.subtypes is not None]
    subtypes = pd.concat(told, ignore_index=True) if len(told) == len(parts) and told else None
    risk, survival = np.concatenate([p.risk for p in parts]), np.concatenate([p.survival for p in parts])
    return Predictions(risk, survival, subtypes)


def table(outcomes: Outcomes, predicted: Predictions, horizons: FloatArray) -> pd.DataFrame:
    """patient_id, fold, risk, S_<months>: one row a test row, sorted by patient and fold."""
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
    """`table` with time_months and event beside each row."""
    frame = table(outcomes, predicted, horizons)
    frame["time_months"] = outcomes.time_months[outcomes.patient][frame.index]
    frame["event"] = outcomes.event[outcomes.patient][frame.index].astype(np.int64)
    return frame


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """UTF-8, `\\n`, full float precision: reading it gives back the same numbers to the bit."""
    path.write_text(frame.to_csv(index=False, lineterminator="\n"), encoding="utf-8")


def _read_fold(models: Location, outcomes: Outcomes, fold: Fold, horizons: FloatArray) -> Predictions:
    where = storage.join(models, f"fold_{fold.number}", "predictions.csv")
    expected = [outcomes.patient_ids[i] for i in fold.patients]
    frame = read_csv(where)
    # Written by versions before this one: no subtypes, and then no score of them.
    told, curve = [str(name) for name in frame if str(name).startswith("P_")], columns_of(horizons)
    numbers = checked(frame, expected, ["risk", *curve, *told], where)
    if "fold" in frame and (other := frame.loc[frame["fold"] != str(fold.number), "fold"]).size:
        hint = "put back the folder of this fold, or train it again (mcti train)"
        raise DataError(f"a row says fold {other.iloc[0]}, not {fold.number}", where, hint)
    risk, survival, shares = np.split(numbers, [1, 1 + len(curve)], axis=1)
    subtypes = pd.DataFrame(shares, columns=[name.removeprefix("P_") for name in told]) if told else None
    return Predictions(risk[:, 0], survival, subtypes)


def columns_of(horizons: FloatArray) -> list[str]:
    """The survival columns of these months (h,), in their order."""
    return [survival_column(float(months)) for months in horizons]


def checked(frame: pd.DataFrame, expected: list[str], names: list[str], where: str) -> FloatArray:
    """(m, len(names)) numbers of the expected patients, in their order, from a table that `read_csv` read.

    names  `risk`, survival columns by rising months, probabilities of subtypes

    Raises
        DataError: a column or a patient is missing, a patient is there twice or is none of the expected, a number is
            none, or a survival curve leaves [0, 1] or rises.
    """
    _check_columns(frame, names, where)
    _check_patients(frame, expected, where)
    rows = frame.set_index("patient_id").loc[expected]
    numbers = np.column_stack([_numbers(rows[name], where) for name in names])
    curves = [k for k, name in enumerate(names) if name.startswith("S_")]
    rises = np.diff(numbers[:, curves], axis=1) > _ROUNDING
    if rises.any():
        row, k = (int(at[0]) for at in np.nonzero(rises))
        what = f"{names[curves[k + 1]]} is above {names[curves[k]]}: a survival curve never rises"
        hint = "the training of this fold went wrong: train it again"
        raise DataError(what, f"{where}, patient {expected[row]}", hint)
    return numbers


def read_csv(where: str) -> pd.DataFrame:
    """A table of text; DataError where it is none."""
    with storage.local_copy(where) as path:
        try:
            # As text: pandas' own reading of numbers may miss the last bit, and with it the registered model's risk.
            return pd.read_csv(path, dtype=str, keep_default_na=False)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise DataError(f"not a CSV table ({error})", where, "train this fold again (mcti train)") from error


def _check_columns(frame: pd.DataFrame, columns: list[str], where: str) -> None:
    missing = [name for name in ["patient_id", *columns] if name not in frame]
    if missing and len(frame.columns) == 1:
        raise DataError("there is one column only", where, "separate the columns by commas, as mcti train wrote it")
    if missing:
        known = ", ".join(str(c) for c in frame if str(c).startswith("S_")) or "none"
        hint = f"survival columns there: {known}; set evaluate.horizons_months to those of train, or train again"
        raise DataError(f"column {missing[0]!r} is missing", where, hint)


def _check_patients(frame: pd.DataFrame, expected: list[str], where: str) -> None:
    names = frame["patient_id"]
    hint = "train this fold again on these folds (mcti train)"
    if (twice := names[names.duplicated()]).size:
        raise DataError(f"patient {twice.iloc[0]} is predicted more than once", where, hint)
    if absent := sorted(set(expected) - set(names)):
        raise DataError(f"test patient {absent[0]} has no prediction ({len(absent)} such)", where, hint)
    if foreign := sorted(set(names) - set(expected)):
        raise DataError(f"patient {foreign[0]} is no test patient of this fold ({len(foreign)} such)", where, hint)


def _numbers(column: pd.Series, where: str) -> FloatArray:
    """A column of text as numbers: finite, and between 0 and 1 for a survival probability."""
    found = np.empty(len(column))
    is_risk = column.name == "risk"
    for row, (patient, text) in enumerate(column.items()):
        try:
            found[row] = float(text)
        except ValueError:
            found[row] = np.nan
        if not (np.isfinite(found[row]) if is_risk else -_ROUNDING <= found[row] <= 1 + _ROUNDING):
            raise DataError(
                f"{column.name} is {text!r}, {'no finite number' if is_risk else 'not in [0, 1]'}",
                f"{where}, patient {patient}",
                "the training of this fold went wrong: train it again",
            )
    return found
