"""The model as MLflow loads and serves it: this file is logged as code, beside weights and JSON; nothing is pickled.

Input, one row a patient: patient_id, genes ({name: value}), features ([[…], …], N patches of D values),
covariates ({name: value}; only for a model that reads clinical covariates).
Output: patient_id, risk (higher = earlier event), S_<months>, model (the fold that predicted, or `ensemble`).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import torch
from mlflow.pyfunc import PythonModel

from mcti.errors import DataError
from mcti.registry import ensemble


class ServedModel(PythonModel):  # type: ignore[misc]
    """An ensemble behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        """Read the ensemble that was logged with this code."""
        self.ensemble = ensemble.load(Path(context.artifacts["ensemble"]))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:  # noqa: ARG002
        """One row out for each row in; `params["horizons_months"]` chooses the months of S(t)."""
        if "patient_id" not in model_input.columns:
            raise DataError("column patient_id is missing", "the request", "send patient_id, genes, features")
        chosen = (params or {}).get("horizons_months")
        horizons = [float(months) for months in chosen] if chosen is not None and len(chosen) else None
        rows = [self._row(row, horizons) for row in model_input.to_dict("records")]
        return pd.DataFrame(rows)

    def _row(self, row: Mapping[Any, Any], horizons: list[float] | None) -> dict[str, Any]:
        features = row.get("features")
        genes, covariates = (None if _absent(row.get(name)) else row[name] for name in ("genes", "covariates"))
        bag = None if _absent(features) else torch.as_tensor(_matrix(features), dtype=torch.float32)
        return self.ensemble.predict(str(row["patient_id"]), bag, genes, horizons, covariates)


def _absent(value: Any) -> bool:
    return (
        value is None or (isinstance(value, float) and value != value) or (hasattr(value, "__len__") and not len(value))
    )


def _matrix(value: Any) -> Any:
    import numpy as np

    try:
        return np.array([np.asarray(row, dtype=np.float32) for row in value])
    except (TypeError, ValueError) as error:
        raise DataError(
            f"features are no table of numbers ({error})", "the request", "send N rows of D numbers"
        ) from error


mlflow.models.set_model(ServedModel())
