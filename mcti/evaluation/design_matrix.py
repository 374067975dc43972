"""Design matrix of the baselines: columns imputed, encoded, scaled and projected by the training part alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd

from mcti.arrays import BoolArray, FloatArray
from mcti.cohort import left_truncation
from mcti.evaluation.linear_predictor import Columns, Terms
from mcti.model.categories import Category

NOT_COVARIATES = ("patient_id", "cohort", "site", "subtype", "age", "is_female", "time_months", "event", "competing",
                  "entry_months")  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """The input of a baseline, one row per patient in each table.

    patients      the cohort table (docs/formats.md)
    genes (n, G)  expression
    bags (n, 2 D) mean and standard deviation of the patient's patch features, NaN for a patient without slides; None
                  where the evaluation has no slide features
    embeddings    whether each row of the features stands for a slide or a patient, not for a patch
    """

    patients: pd.DataFrame
    genes: pd.DataFrame
    bags: FloatArray | None = None
    embeddings: bool = False

    def rows(self, positions: np.ndarray) -> "Inputs":
        """The input of the patients in these rows; positions (k,)."""
        bags = None if self.bags is None else self.bags[positions]
        return Inputs(self.patients.iloc[positions], self.genes.iloc[positions], bags, self.embeddings)

    def with_genes(self, names: Sequence[str]) -> "Inputs":
        """The same patients with these genes in this order; a gene that the table lacks is missing in every patient."""
        return Inputs(self.patients, self.genes.reindex(columns=list(names)), self.bags, self.embeddings)

    @property
    def event(self) -> BoolArray:
        """(n,) whether the event was observed."""
        return np.asarray(self.patients["event"].to_numpy(dtype=np.int64) == 1)

    @property
    def time_months(self) -> FloatArray:
        """(n,) follow-up in months."""
        return self.patients["time_months"].to_numpy(dtype=np.float64)

    @property
    def entry_months(self) -> FloatArray | None:
        """(n,) months of entry under observation; None for a cohort without this column."""
        return left_truncation.entries(self.patients) if left_truncation.has_entries(self.patients) else None


class Block(Protocol):
    """Some columns of the design matrix: fitted on a training part, then applied to any patients."""

    def fit(self, train: Inputs) -> Self:
        """Learn medians, categories, scales and directions from the training part."""

    def columns(self, inputs: Inputs) -> FloatArray:
        """(n, p) finite numbers with about unit variance in the training part."""

    def terms(self, coefficients: FloatArray) -> Terms:
        """The linear function `columns(inputs) @ coefficients` of the raw inputs; coefficients (p,)."""


class Clinical:
    """Named columns of the cohort table: numbers as z-scores, text as one indicator column per category.

    A missing number becomes the training median; an indicator column marks it where the training part has both missing
    and known values. A category that does not occur in training is all zeros. An ordered categorical of pandas has one
    column per level above the lowest, 1 at this level and all higher ones; a missing value or a level that does not
    occur in training is all zeros with an indicator column of its own.
    """

    def __init__(self, names: Sequence[str] | None = None) -> None:
        self.names = names
        self.medians: dict[str, float] = {}
        self.flagged: list[str] = []
        self.categories: dict[str, list[str]] = {}
        self.ordered: dict[str, Category] = {}

    def fit(self, train: Inputs) -> Self:
        """Without `names`: age, is_female, subtype and all covariates of the cohort."""
        table = train.patients
        names = self.names or ["age", "is_female", "subtype", *(str(c) for c in table if c not in NOT_COVARIATES)]
        for name in (str(n) for n in names if n in table):
            if pd.api.types.is_numeric_dtype(table[name]):
                numbers = _numbers(table[name])
                known = numbers[np.isfinite(numbers)]
                self.medians[name] = float(np.median(known)) if known.size else 0.0
                if 0 < known.size < numbers.size:
                    self.flagged.append(name)
            elif isinstance(table[name].dtype, pd.CategoricalDtype):
                if table[name].notna().any():
                    order = [str(level) for level in table[name].cat.categories]
                    self.ordered[name] = Category.learn(name, table[name].dropna(), order, "the training part")
            else:
                self.categories[name] = sorted(table[name].dropna().astype(str).unique())
        self._scale = Scale().fit(self._raw(table))
        return self

    def columns(self, inputs: Inputs) -> FloatArray:
        """(n, p) z-scores, indicators of missing values, indicators of categories and of ordered levels."""
        return self._scale.apply(self._raw(inputs.patients))

    def terms(self, coefficients: FloatArray) -> Terms:
        """See Block."""
        raw, offset = self._scale.unscaled(coefficients)
        values = iter(raw.tolist())
        numbers = {name: (median, next(values)) for name, median in self.medians.items()}
        missing = {name: next(values) for name in self.flagged}
        categories = {name: {value: next(values) for value in _encoded(c)} for name, c in self.categories.items()}
        for name, category in self.ordered.items():
            steps = [next(values) for _ in category.columns]
            unknown = next(values)  # the part of any other value: moved to the offset, and subtracted from each level
            offset += unknown
            parts = {level: float(np.dot(steps, category.encode(level))) for level in category.levels}
            categories[name] = {level: part - unknown for level, part in parts.items()}
        return Terms(offset=offset, numbers=numbers, missing=missing, categories=categories)

    def _raw(self, table: pd.DataFrame) -> FloatArray:
        parts = [np.zeros((len(table), 0))]
        for name, median in self.medians.items():
            numbers = _numbers(table[name])
            parts.append(np.where(np.isfinite(numbers), numbers, median)[:, None])
        parts.extend((~np.isfinite(_numbers(table[name])))[:, None].astype(np.float64) for name in self.flagged)
        for name, categories in self.categories.items():
            values = table[name].astype(str).to_numpy()
            parts.extend((values == category)[:, None].astype(np.float64) for category in _encoded(categories))
        parts.extend(_ordered_columns(table[name], category) for name, category in self.ordered.items())
        return np.concatenate(parts, axis=1)


class Genes:
    """Expression as z-scores, or their first `components` principal components."""

    def __init__(self, components: int | None = None) -> None:
        self._reduce = Reduce(components)

    def fit(self, train: Inputs) -> Self:
        """Medians, scales and directions of the training part."""
        self._reduce.fit(train.genes.to_numpy(dtype=np.float64))
        return self

    def columns(self, inputs: Inputs) -> FloatArray:
        """(n, G) or (n, components)."""
        return self._reduce.apply(inputs.genes.to_numpy(dtype=np.float64))

    def terms(self, coefficients: FloatArray) -> Terms:
        """See Block."""
        columns, offset = self._reduce.linear(coefficients)
        return Terms(offset=offset, genes=columns)


class Bags:
    """Principal components of the z-scored mean and standard deviation of a patient's patch features."""

    def __init__(self, components: int) -> None:
        self._reduce = Reduce(components)

    def fit(self, train: Inputs) -> Self:
        """Medians, scales and directions of the training part."""
        self._reduce.fit(_bags(train))
        return self

    def columns(self, inputs: Inputs) -> FloatArray:
        """(n, components)."""
        return self._reduce.apply(_bags(inputs))

    def terms(self, coefficients: FloatArray) -> Terms:
        """See Block."""
        columns, offset = self._reduce.linear(coefficients)
        return Terms(offset=offset, features=columns)


class Embedding:
    """The mean embedding of a patient's slides as z-scores, rotated to the principal axes of the training part.

    All axes are kept and none is scaled, so a ridge penalty gives the model of all D z-scores (the penalty does not
    change under a rotation, and axes without variance have no coefficient) with at most n columns.
    """

    def fit(self, train: Inputs) -> Self:
        """Medians, scales and axes of the training part."""
        self._reduce = Reduce(None).fit(_means(train))
        scaled = self._reduce.apply(_means(train))
        self._axes = np.linalg.svd(scaled, full_matrices=False)[2]
        return self

    def columns(self, inputs: Inputs) -> FloatArray:
        """(n, min(n, D)) of the training part."""
        return np.asarray(self._reduce.apply(_means(inputs)) @ self._axes.T, dtype=np.float64)

    def terms(self, coefficients: FloatArray) -> Terms:
        """See Block."""
        columns, offset = self._reduce.linear(self._axes.T @ coefficients)
        unused = np.zeros(len(columns.median))  # the standard deviations of the moments
        both = (np.concatenate([part, unused]) for part in (columns.median, columns.coefficient))
        return Terms(offset=offset, features=Columns(*both))


class Reduce:
    """Median imputation, z-scores and optionally the first principal components, scaled to unit variance.

    With unit variance a ridge penalty shrinks all components equally; it would hardly shrink the first ones of the
    unscaled scores (measured on two cohorts: C .661 against .629 and .606 against .599,
    benchmarks/evaluation_linear.py).
    """

    def __init__(self, components: int | None) -> None:
        self.components = components
        self._pca: Any = None

    def fit(self, table: FloatArray) -> Self:
        """table (n, p), NaN where missing."""
        from sklearn.decomposition import PCA

        self._median = _medians(table)
        filled = self._filled(table)
        self._scale = Scale().fit(filled)
        if self.components is not None:
            scaled = self._scale.apply(filled)
            count = min(self.components, *scaled.shape)
            self._pca = PCA(count, svd_solver="full").fit(scaled)
            self._whiten = Scale().fit(self._pca.transform(scaled))
        return self

    def apply(self, table: FloatArray) -> FloatArray:
        """(n, p) -> (n, p) or (n, components)."""
        scaled = self._scale.apply(self._filled(table))
        if self._pca is None:
            return scaled
        return self._whiten.apply(self._pca.transform(scaled))

    def linear(self, coefficients: FloatArray) -> tuple[Columns, float]:
        """`apply(table) @ coefficients` as a function of the raw columns (medians, coefficients), and its offset."""
        offset = 0.0
        if self._pca is not None:
            scores, offset = self._whiten.unscaled(coefficients)
            coefficients = self._pca.components_.T @ scores
            offset -= float(self._pca.mean_ @ coefficients)
        raw, shift = self._scale.unscaled(coefficients)
        return Columns(self._median, raw), offset + shift

    def _filled(self, table: FloatArray) -> FloatArray:
        return np.where(np.isfinite(table), table, self._median)


class Scale:
    """z-scores with the mean and standard deviation of the training part; a constant column becomes 0."""

    def fit(self, table: FloatArray) -> Self:
        """table (n, p)."""
        self._mean, sd = table.mean(axis=0), table.std(axis=0)
        self._factor = np.divide(1.0, sd, out=np.zeros(len(sd)), where=sd > 1e-9)
        return self

    def apply(self, table: FloatArray) -> FloatArray:
        """(n, p) -> (n, p)."""
        return np.asarray((table - self._mean) * self._factor, dtype=np.float64)

    def unscaled(self, coefficients: FloatArray) -> tuple[FloatArray, float]:
        """`apply(table) @ coefficients` as coefficients (p,) of the raw columns, and its offset."""
        raw = np.asarray(self._factor * coefficients, dtype=np.float64)
        return raw, -float(self._mean @ raw)


def design(blocks: Sequence[Block], inputs: Inputs) -> FloatArray:
    """(n, p) columns of all blocks, concatenated."""
    return np.concatenate([block.columns(inputs) for block in blocks], axis=1)


def _encoded(categories: Sequence[str]) -> Sequence[str]:
    """The categories with a column. Two need one; more get one each: the ridge penalty makes that harmless."""
    return categories[1:] if len(categories) == 2 else categories


def _ordered_columns(values: pd.Series, category: Category) -> FloatArray:
    """(n, columns + 1) of an ordered covariate, and an indicator of an unknown level."""
    encoded = np.array([category.encode(str(value)) for value in values], dtype=np.float64)
    unknown = np.isnan(encoded[:, :1])
    return np.hstack([np.nan_to_num(encoded), unknown.astype(np.float64)])


def _numbers(column: pd.Series) -> FloatArray:
    return column.to_numpy(dtype=np.float64, na_value=np.nan)


def _medians(table: FloatArray) -> FloatArray:
    """Column medians of the known values; 0 for a column without any."""
    finite = np.isfinite(table)
    complete, known = finite.all(axis=0), finite.any(axis=0)
    medians = np.zeros(table.shape[1])
    medians[complete] = np.median(table[:, complete], axis=0)  # the same bits in a fraction of the time
    medians[known & ~complete] = np.nanmedian(table[:, known & ~complete], axis=0)
    return medians


def _bags(inputs: Inputs) -> FloatArray:
    assert inputs.bags is not None, "a slide baseline needs slide features"
    return inputs.bags


def _means(inputs: Inputs) -> FloatArray:
    """(n, D) mean embedding of each patient."""
    moments = _bags(inputs)
    return moments[:, : moments.shape[1] // 2]
