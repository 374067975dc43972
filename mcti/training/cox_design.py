"""Columns of the ridge Cox model: principal axes of the inputs of one or several cohorts, and the way back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mcti.arrays import FloatArray
from mcti.model.axes import directions
from mcti.model.cox import GENE_AXES, SLIDE_AXES
from mcti.training.cox_inputs import Tables

Ratios = Mapping[str, Tensor]
"""Log hazard ratio of one unit of each column of `Tables`, by the name of the table."""


@dataclass(frozen=True)
class AxesKind:
    """Number of principal axes of genes and slides, and how much they are whitened.

    whitening  variance of an axis to the power 1 - whitening is left: 1: all axes have variance 1, and a ridge penalty
               shrinks them equally; 0: a ridge penalty on all columns, which shrinks small axes most
    covariates variance of the covariates, which a large variance protects from the penalty
    """

    genes: int
    slides: int
    whitening: float
    covariates: float


WHITENED = AxesKind(GENE_AXES, SLIDE_AXES, 1.0, 1.0)
HALF_WHITENED = AxesKind(100, 50, 0.5, 3.0)


@dataclass(frozen=True)
class Scaled:
    """Tables with mean 0 and variance 1 of each column within one cohort; a constant column is 0.

    factors  1 / standard deviation of each column, 0 for a constant one
    """

    tables: Tables
    factors: Mapping[str, Tensor]

    @classmethod
    def fit(cls, tables: Tables) -> "Scaled":
        """Scale the tables of all patients of a cohort, or of a training part."""
        factors = {name: _factor(table) for name, table in tables.items()}
        scaled = {name: (table - table.mean(0)) * factors[name] for name, table in tables.items()}
        return cls(scaled, factors)


@dataclass(frozen=True)
class Design:
    """Columns as linear functions of scaled tables: maps {table: (columns, width)}."""

    maps: Mapping[str, Tensor]

    @classmethod
    def fit(cls, cohorts: Sequence[Scaled], axes: AxesKind) -> "Design":
        """Principal axes of the patients of all cohorts together, each scaled within itself."""
        maps = {}
        for name in cohorts[0].tables:
            stacked = torch.cat([cohort.tables[name] for cohort in cohorts])
            if name == "covariates":
                maps[name] = torch.eye(stacked.shape[1], dtype=torch.float64) * axes.covariates**0.5
            else:
                maps[name] = _axes(stacked, axes.genes if name == "genes" else axes.slides, axes.whitening)
        return cls(maps)

    def columns(self, cohort: Scaled) -> FloatArray:
        """(n, K) columns of the patients of a cohort."""
        parts = [cohort.tables[name] @ rows.T for name, rows in self.maps.items()]
        return torch.cat(parts, 1).numpy()

    def ratios(self, coefficients: FloatArray, target: Scaled) -> Ratios:
        """Coefficients (K,) of the columns as those of the unscaled tables of the cohort `target`."""
        parts = torch.split(torch.from_numpy(coefficients), [len(rows) for rows in self.maps.values()])
        named = zip(self.maps.items(), parts, strict=True)
        return {name: (part @ rows) * target.factors[name] for (name, rows), part in named}


def _factor(table: Tensor) -> Tensor:
    sd = table.std(0, correction=0)
    return torch.where(sd > 1e-8, sd, torch.inf).reciprocal()


def _axes(rows: Tensor, count: int, whitening: float) -> Tensor:
    """(A, p) principal axes of scaled rows (n, p), the first of them with variance 1."""
    whitened = directions(rows, min(count, rows.shape[1]))
    # The norm of a row is 1 / sd of its axis. An axis without variance is 0 and remains so.
    sds = whitened.norm(dim=1).clamp_min(1e-300).reciprocal()
    largest = sds[whitened.abs().amax(1) > 0].max() if bool(whitened.any()) else 1.0
    share = torch.where(whitened.abs().amax(1) > 0, sds / largest, 0.0)
    return whitened * share.pow(1 - whitening)[:, None]
