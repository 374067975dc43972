"""The model as MLflow loads and serves it: this file is logged as code, together with weights and JSON; no pickle.

Input, one row per patient: patient_id, genes ({name: value}), features ([[…], …], N patches of D values, or
{"shape": [N, D], "float32": base64}), covariates ({name: number, or the level of a categorical one}; only
for a model that reads clinical covariates).
Output: the columns of `mcti predict` (docs/serving.md), to the bit.
A request that cannot be answered gets 400 and one line: what, where, hint.
"""

import base64
import math
import reprlib
from collections.abc import Collection, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel

from mcti import redaction
from mcti.errors import DataError, MctiError
from mcti.registry import ensemble_files

MAX_PATIENTS = 1000
"""Patients per request."""
MAX_PATCHES = 200_000
"""Patches per patient: about ten slides at 20x."""
MAX_HORIZONS = 100
"""Horizons of S(t) per request."""


class InvalidRequest(MlflowException):  # type: ignore[misc]
    """Status 400 with our one line: its message is immutable, since MLflow would prepend the whole table with ids."""

    def __setattr__(self, name: str, value: object) -> None:
        if name != "message" or not hasattr(self, name):
            super().__setattr__(name, value)


class ServedModel(PythonModel):  # type: ignore[misc]
    """An ensemble with the interface of MLflow's models."""

    def load_context(self, context: Any) -> None:
        """Read the ensemble that was logged with this file."""
        self.ensemble = ensemble_files.load(Path(context.artifacts["ensemble"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """One output row per input row; `params`: horizons_months (months of S(t)) and risk_groups.

        Raises InvalidRequest when a row or a parameter is invalid.
        """
        try:
            return _frame(self._rows(model_input, params or {}))
        except MctiError as error:
            message = redaction.text(str(error), map(str, model_input.get("patient_id", ())))
            raise InvalidRequest(message, error_code=INVALID_PARAMETER_VALUE) from error

    def _rows(self, model_input: pd.DataFrame, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        if "patient_id" not in model_input.columns:
            raise DataError("column patient_id is missing", "the request", "send patient_id, genes, features")
        if len(model_input) > MAX_PATIENTS:
            hint = f"send at most {MAX_PATIENTS} at a time, or use mcti predict"
            raise DataError(f"{len(model_input)} patients", "the request", hint)
        _refuse_duplicates(model_input["patient_id"].astype(str).tolist())
        horizons, groups = _horizons(params.get("horizons_months")), params.get("risk_groups")
        rows = [
            self._row(row, horizons, 2 if groups is None else int(groups)) for row in model_input.to_dict("records")
        ]
        return [row | {"patient_id": redaction.redact_id(row["patient_id"])} for row in rows]

    def _row(self, row: Mapping[Any, Any], horizons: list[float] | None, groups: int) -> dict[str, Any]:
        features, patient = row.get("features"), str(row["patient_id"])
        if patient in _EMPTY_IDS:
            raise DataError("patient_id is empty", "the request", "send a non-empty id for each patient")
        genes = values_by_name(row.get("genes"), "genes")
        covariates = values_by_name(row.get("covariates"), "covariates", self.ensemble.levels)
        bag = None if _absent(features) else torch.as_tensor(_matrix(features), dtype=torch.float32)
        try:
            return self.ensemble.predict(patient, bag, genes, horizons, covariates, groups)
        except MctiError as error:
            raise error.with_patient(patient) from error


def _refuse_duplicates(patients: Sequence[str]) -> None:
    earlier: set[str] = set()
    for patient in patients:
        if patient in earlier and patient not in _EMPTY_IDS:
            raise DataError("two rows of one patient_id", f"the request, patient {patient}", "send each patient once")
        earlier.add(patient)


_EMPTY_IDS = frozenset({"", "None", "nan"})  # MLflow converts a null to text before this code receives it


def _horizons(chosen: Sequence[float] | None) -> list[float] | None:
    """The horizons (months) of the request; None: those of the model."""
    if chosen is None or not len(chosen):
        return None
    hint = f"send at most {MAX_HORIZONS} months, none below 0"
    if len(chosen) > MAX_HORIZONS:
        raise DataError(f"{len(chosen)} horizons_months", "the request", hint)
    months = [float(value) for value in chosen]
    invalid = next((value for value in months if not 0 <= value < math.inf), None)
    if invalid is not None:
        raise DataError(f"horizons_months {invalid:g}", "the request", hint)
    return months


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """None stays None in numeric columns: pandas would make it NaN, which is not valid JSON."""
    gaps = {name for row in rows for name, value in row.items() if value is None}
    return pd.DataFrame(rows).assign(**{name: pd.Series([row[name] for row in rows], dtype=object) for name in gaps})


def _absent(value: Any) -> bool:
    return (
        value is None or (isinstance(value, float) and value != value) or (hasattr(value, "__len__") and not len(value))
    )


def values_by_name(value: Any, name: str, levels: Collection[str] = ()) -> dict[str, Any] | None:
    """`{name: number}`, None where nothing was sent; levels: names of categorical covariates, whose values are text.

    Raises DataError when the values are no object, or one has the wrong type
    """
    if _absent(value):
        return None
    hint = f'send {name} as {{"name": 2.5}}, null where not measured'
    hint += f"; text for {', '.join(levels)}" if levels else ""
    if not isinstance(value, Mapping):
        raise DataError(f"{name} are a {type(value).__name__}, not numbers by name", "the request", hint)
    for key, number in value.items():
        if key in levels and (isinstance(number, str) or number != number):
            continue  # NaN: a table of pandas has it in place of a null
        if key in levels and number is not None:
            raise DataError(f"{name}: {key!r} is {reprlib.repr(number)}, not a text", "the request", hint)
        if number is not None and not _is_number(number):
            raise DataError(f"{name}: {key!r} is {reprlib.repr(number)}, not a number", "the request", hint)
    return dict(value)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    try:
        float(value)
    except OverflowError:  # an integer in JSON has any length
        return False
    return True


def _matrix(value: Any) -> Any:
    import numpy as np

    hint = "send N rows of D numbers"
    if isinstance(value, Mapping):
        return _packed(value)
    if isinstance(value, str) or not hasattr(value, "__len__"):
        raise DataError(f"features are a {type(value).__name__}, not a table of numbers", "the request", hint)
    _check_patch_count(len(value))
    try:
        table = np.array(value if isinstance(value, np.ndarray) else list(value))
    except (TypeError, ValueError) as error:
        raise DataError(f"features are not a table of numbers ({error})", "the request", hint) from error
    if table.dtype.kind not in "fiu":
        what = "features are not a table of numbers: they contain a text, a null or a boolean"
        raise DataError(what, "the request", hint)
    return table.astype(np.float32)


def _packed(value: Mapping[str, Any]) -> Any:
    """(N, D) from base64 of little-endian float32: a quarter of the size of decimal numbers, and no parsing."""
    import numpy as np

    hint = 'send {"shape": [N, D], "float32": base64 of the rows, little-endian}'
    shape, text = value.get("shape"), value.get("float32")
    if not isinstance(shape, list) or not isinstance(text, str) or len(value) != 2 or not _is_shape(shape):
        raise DataError("features are an object without shape [N, D] and float32", "the request", hint)
    _check_patch_count(shape[0])
    try:
        body = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise DataError(f"features are not base64 ({error})", "the request", hint) from error
    if len(body) != 4 * shape[0] * shape[1]:
        raise DataError(f"{len(body)} bytes of features and shape {shape}", "the request", hint)
    return np.frombuffer(body, dtype="<f4").reshape(shape).astype(np.float32)


def _is_shape(shape: list[Any]) -> bool:
    return len(shape) == 2 and all(type(n) is int and n >= 0 for n in shape)  # True is an instance of int


def _check_patch_count(patches: int) -> None:
    if patches > MAX_PATCHES:
        hint = f"send at most {MAX_PATCHES}, or use mcti predict"
        raise DataError(f"{patches} patches of one patient", "the request", hint)


mlflow.models.set_model(ServedModel())
