"""Fitted baselines as plain numbers: a linear predictor of the raw inputs, stored as safetensors and used on new data.

Imputation, scaling, principal components and coefficients of a baseline are one linear function of the raw inputs once
missing values are replaced by the training medians. Only that function and the survival of a patient with risk 0 at the
horizons are stored: no value of a single patient, and no time of an event.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mcti import storage
from mcti.arrays import FloatArray
from mcti.errors import DataError
from mcti.params.data import MAX_MISSING_GENES
from mcti.storage import Location

if TYPE_CHECKING:
    from mcti.evaluation.design_matrix import Inputs

FILE = "baseline_models.safetensors"
"""Name of the file in the folder of an evaluation."""
_SPEC = "baselines"  # one key: safetensors writes several keys of its metadata in no fixed order


@dataclass(frozen=True)
class Columns:
    """A linear term of a table: median (p,) that replaces a missing value, and coefficient (p,) of each column."""

    median: FloatArray
    coefficient: FloatArray

    def __call__(self, values: FloatArray) -> FloatArray:
        """(n, p) raw values, NaN where missing -> (n,) their part of the log hazard ratio."""
        return np.where(np.isfinite(values), values, self.median) @ self.coefficient


@dataclass(frozen=True)
class Terms:
    """A log hazard ratio of the raw inputs, relative to the average training patient.

    numbers     {column of the cohort table: (median, coefficient)};  missing  coefficient of the indicator of a missing
                value, by column;  categories  {column: {value: coefficient}}, 0 for any other value
    genes       of the expression, in the order of its columns;  features  of the moments of a patient's patches
    """

    offset: float = 0.0
    numbers: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    missing: Mapping[str, float] = field(default_factory=dict)
    categories: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    genes: Columns | None = None
    features: Columns | None = None

    @classmethod
    def total(cls, parts: Sequence["Terms"]) -> "Terms":
        """The sum of terms of different inputs."""
        return cls(
            offset=sum(part.offset for part in parts),
            numbers={name: value for part in parts for name, value in part.numbers.items()},
            missing={name: value for part in parts for name, value in part.missing.items()},
            categories={name: value for part in parts for name, value in part.categories.items()},
            genes=next((part.genes for part in parts if part.genes is not None), None),
            features=next((part.features for part in parts if part.features is not None), None),
        )

    def clinical_columns(self) -> list[str]:
        """The columns of the cohort table that the terms read."""
        return [*self.numbers, *self.categories]

    def risk(self, inputs: "Inputs") -> FloatArray:
        """(n,) log hazard ratio of each patient; `inputs.genes` has the genes of the terms in their order."""
        total = np.full(len(inputs.patients), self.offset)
        for name, (median, coefficient) in self.numbers.items():
            values = inputs.patients[name].to_numpy(dtype=np.float64, na_value=np.nan)
            known = np.isfinite(values)
            total += np.where(known, values, median) * coefficient + ~known * self.missing.get(name, 0.0)
        for name, coefficients in self.categories.items():
            total += inputs.patients[name].astype(str).map(coefficients).fillna(0.0).to_numpy(dtype=np.float64)
        if self.genes is not None:
            total += self.genes(inputs.genes.to_numpy(dtype=np.float64))
        if self.features is not None and inputs.bags is not None:
            total += self.features(inputs.bags)
        return total


@dataclass(frozen=True)
class LinearPredictor:
    """A fitted proportional hazards model: S(t) = S0(t) ** exp(risk).

    months (h,);  survival (h,)  S0 of a patient with risk 0 at these months
    """

    terms: Terms
    months: FloatArray
    survival: FloatArray

    def predict(self, inputs: "Inputs", months: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Risk (n,), higher means an earlier event, and S(t) (n, h) at `months` (h,), which must be stored."""
        at = [int(np.flatnonzero(self.months == month)[0]) for month in months]
        risk = self.terms.risk(inputs)
        # Beyond, exp overflows, and S is 0 or 1 in either case.
        return risk, self.survival[at][None, :] ** np.exp(np.minimum(risk, 500.0))[:, None]


@dataclass(frozen=True)
class StoredBaselines:
    """The fitted baselines of an evaluation: {name: one model per fold}; genes: columns of the expression."""

    models: Mapping[str, Sequence[LinearPredictor]]
    genes: tuple[str, ...]

    def unusable(self, inputs: "Inputs", months: FloatArray) -> dict[str, str]:
        """{name: reason} of the baselines that cannot be applied to these inputs at these months."""
        reasons = {name: self._reason(models[0], inputs, months) for name, models in self.models.items()}
        return {name: reason for name, reason in reasons.items() if reason}

    def predict(self, name: str, inputs: "Inputs", months: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean risk (n,) and mean S(t) (n, h) over the models of the folds, as for a registered model."""
        table = inputs.with_genes(self.genes)
        risks, curves = zip(*(model.predict(table, months) for model in self.models[name]), strict=True)
        return np.mean(risks, axis=0), np.mean(curves, axis=0)

    def _reason(self, model: LinearPredictor, inputs: "Inputs", months: FloatArray) -> str:
        columns = [name for name in model.terms.clinical_columns() if name not in inputs.patients]
        text = [name for name in model.terms.numbers if name in inputs.patients and not _is_number(inputs, name)]
        missing = [gene for gene in self.genes if gene not in inputs.genes.columns]
        features = model.terms.features
        if unknown := [month for month in months if month not in model.months]:
            return f"no stored survival at {unknown[0]:g} months"
        if columns:
            return f"the cohort has no column {columns[0]}"
        if text:
            return f"the column {text[0]} is not numeric in the cohort"
        if model.terms.genes is not None and len(missing) > MAX_MISSING_GENES * len(self.genes):
            return f"the cohort lacks {len(missing)} of its {len(self.genes)} genes"
        if features is not None and inputs.bags is None:
            return "no slide features were passed"
        if features is not None and inputs.bags is not None and inputs.bags.shape[1] != len(features.median):
            return f"the features have width {inputs.bags.shape[1] // 2}, not {len(features.median) // 2}"
        return ""

    def save(self) -> bytes:
        """As a safetensors file; the same models give the same bytes."""
        from safetensors.numpy import save

        tensors: dict[str, FloatArray] = {}
        spec: dict[str, list[dict[str, Any]]] = {}
        for name, models in self.models.items():
            spec[name] = [_spec(model) for model in models]
            for number, model in enumerate(models):
                tensors |= _tensors(f"{name}/{number}", model)
        document = json.dumps({"genes": list(self.genes), "models": spec}, sort_keys=True)
        return bytes(save(tensors, metadata={_SPEC: document}))

    @classmethod
    def load(cls, location: Location) -> "StoredBaselines":
        """The inverse of `save`.

        Raises DataError when the file is not one that `save` wrote, or has a number that is not finite.
        """
        from safetensors import SafetensorError, safe_open

        hint = "use the file that `mcti evaluate` wrote"
        with storage.local_copy(location) as path:
            try:
                with safe_open(path, framework="np") as file:
                    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no iterator)
                    document = json.loads((file.metadata() or {})[_SPEC])
                models = {
                    str(name): tuple(_model(spec, f"{name}/{k}", tensors) for k, spec in enumerate(specs))
                    for name, specs in document["models"].items()
                }
                genes = tuple(map(str, document["genes"]))
            except (SafetensorError, KeyError, TypeError, ValueError) as error:
                raise DataError(f"not a file of fitted baselines ({error})", str(location), hint) from error
        if not all(np.isfinite(table).all() for table in tensors.values()):
            raise DataError("a coefficient is not finite", str(location), hint)
        return cls(models, genes)


def _is_number(inputs: "Inputs", name: str) -> bool:
    return bool(pd.api.types.is_numeric_dtype(inputs.patients[name]))


def _spec(model: LinearPredictor) -> dict[str, Any]:
    terms = model.terms
    return {
        "offset": terms.offset,
        "numbers": {name: list(pair) for name, pair in terms.numbers.items()},
        "missing": dict(terms.missing),
        "categories": {name: dict(values) for name, values in terms.categories.items()},
        "months": model.months.tolist(),
        "survival": model.survival.tolist(),
    }


def _tensors(prefix: str, model: LinearPredictor) -> dict[str, FloatArray]:
    tables = {"genes": model.terms.genes, "features": model.terms.features}
    return {
        f"{prefix}/{name}": np.stack([columns.median, columns.coefficient])
        for name, columns in tables.items()
        if columns is not None
    }


def _model(spec: Mapping[str, Any], prefix: str, tensors: Mapping[str, FloatArray]) -> LinearPredictor:
    tables = {name: tensors.get(f"{prefix}/{name}") for name in ("genes", "features")}
    columns = {name: None if table is None else Columns(table[0], table[1]) for name, table in tables.items()}
    terms = Terms(
        offset=float(spec["offset"]),
        numbers={str(name): (float(median), float(beta)) for name, (median, beta) in spec["numbers"].items()},
        missing={str(name): float(beta) for name, beta in spec["missing"].items()},
        categories={str(n): {str(v): float(beta) for v, beta in c.items()} for n, c in spec["categories"].items()},
        **columns,
    )
    return LinearPredictor(terms, np.array(spec["months"]), np.array(spec["survival"]))
