"""Drift of a data version from a reference version.

A profile contains the shares of the classes (or deciles) of each clinical column, and mean and sd of each gene. The
population stability index of two distributions a and b is sum((b - a) * ln(b / a)): below 0.1 stable, above 0.25 a
different population (Siddiqi, Credit Risk Scorecards, Wiley 2006, p. 136).
"""

from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from mcti import storage
from mcti.errors import DataError
from mcti.storage import Location

SHIFT = 0.5  # reference standard deviations by which the mean of a counted gene has moved
_MIN_SHARE = 1e-4  # an empty class would make the index infinite


class ColumnProfile(BaseModel):
    """Shares of one clinical column: of its values, or of the intervals between `edges`; "missing" is one class."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    edges: tuple[float, ...] = ()
    shares: dict[str, float]


class DataProfile(BaseModel):
    """Summary of a data version (`profile.json`), with which later versions are compared.

    genes   {gene: (mean, sd)}
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    md5: str
    numbers: dict[str, float]
    columns: dict[str, ColumnProfile]
    genes: dict[str, tuple[float, float]]


class DriftRow(BaseModel):
    """One row of a comparison; `psi` only where distributions are compared."""

    model_config = ConfigDict(frozen=True)
    name: str
    reference: str
    current: str
    psi: float | None = None


class Drift(BaseModel):
    """Comparison of a data version with the reference version."""

    model_config = ConfigDict(frozen=True)
    reference_md5: str
    rows: tuple[DriftRow, ...]


def profile(patients: pd.DataFrame, genes: pd.DataFrame, numbers: dict[str, float], md5: str) -> DataProfile:
    """The profile of a data version.

    patients  canonical table, one row per patient
    genes     columns gene, mean, sd; one row per gene
    numbers   measurements of the whole cohort by name
    """
    columns = {str(name): _column(patients[name]) for name in patients.columns if name != "patient_id"}
    moments = zip(genes["gene"], genes["mean"], genes["sd"], strict=True)
    finite = {str(g): (_rounded(m), _rounded(s)) for g, m, s in moments if np.isfinite(m) and np.isfinite(s)}
    return DataProfile(md5=md5, numbers=numbers, columns=columns, genes=finite)


def read(location: Location) -> DataProfile:
    """Read the profile.json of a data version.

    Raises DataError when there is no such file, or it is no profile.
    """
    try:
        return DataProfile.model_validate(storage.read_json(location))
    except ValidationError as error:
        hint = "use the profile.json of a validation that passed"
        raise DataError("not a profile of a data version", str(location), hint) from error


def compare(patients: pd.DataFrame, current: DataProfile, reference: DataProfile) -> Drift:
    """Compare numbers, distributions and genes of two versions.

    patients  canonical table of the current version, one row per patient
    """
    rows = [
        DriftRow(
            name=name,
            reference=_number_text(reference.numbers.get(name)),
            current=_number_text(current.numbers.get(name)),
        )
        for name in dict.fromkeys([*current.numbers, *reference.numbers])
    ]
    for name in sorted(set(current.columns) | set(reference.columns)):
        if name not in current.columns or name not in reference.columns:
            before, after = ("yes" if name in profile.columns else "no" for profile in (reference, current))
            rows.append(DriftRow(name=f"column {name}", reference=before, current=after))
            continue
        distribution = reference.columns[name]
        psi = _stability_index(distribution, _column(patients[name], distribution.edges))
        texts = _summary(distribution), _summary(current.columns[name])
        rows.append(DriftRow(name=name, reference=texts[0], current=texts[1], psi=psi))
    return Drift(reference_md5=reference.md5, rows=(*rows, *_gene_rows(current, reference)))


def _column(values: "pd.Series[Any]", edges: tuple[float, ...] = ()) -> ColumnProfile:
    if not pd.api.types.is_numeric_dtype(values) or (not edges and values.nunique() <= 10):
        classes = values.map(lambda value: "missing" if pd.isna(value) else _class_name(value))
        return ColumnProfile(shares=_shares(classes.tolist()))
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    finite = numbers[np.isfinite(numbers)]
    edges = edges or tuple(float(edge) for edge in np.unique(np.quantile(finite, np.arange(1, 10) / 10)))
    interval = np.searchsorted(edges, numbers, side="right")
    names = ["missing" if np.isnan(v) else str(i) for v, i in zip(numbers, interval, strict=True)]
    return ColumnProfile(edges=edges, shares=_shares(names))


def _number_text(value: float | None) -> str:
    return "not measured" if value is None else f"{round(value, 4) + 0.0:.9g}"  # + 0.0: no -0


def _class_name(value: object) -> str:
    return f"{float(value):g}" if isinstance(value, int | float | np.number) else str(value)


def _shares(classes: list[str]) -> dict[str, float]:
    counts = pd.Series(classes, dtype=object).value_counts(normalize=True)
    return {str(name): _rounded(share) for name, share in sorted(counts.items())}


def _rounded(value: float) -> float:
    return float(f"{value:.9g}")


def _stability_index(before: ColumnProfile, after: ColumnProfile) -> float:
    names = sorted(set(before.shares) | set(after.shares))
    a = np.array([max(before.shares.get(name, 0.0), _MIN_SHARE) for name in names])
    b = np.array([max(after.shares.get(name, 0.0), _MIN_SHARE) for name in names])
    return round(float(((b - a) * np.log(b / a)).sum()), 4)


def _summary(column: ColumnProfile) -> str:
    if column.edges:
        missing = column.shares.get("missing", 0.0)
        return f"median {column.edges[len(column.edges) // 2]:.4g}" + (f", {missing:.0%} missing" if missing else "")
    top = sorted(column.shares.items(), key=lambda pair: -pair[1])[:4]
    return ", ".join(f"{name} {share:.0%}" for name, share in top) + (" …" if len(column.shares) > 4 else "")


def _gene_rows(current: DataProfile, reference: DataProfile) -> list[DriftRow]:
    before, after = reference.genes, current.genes
    shared = sorted(set(after) & set(before))
    moved = [gene for gene in shared if abs(after[gene][0] - before[gene][0]) > SHIFT * (before[gene][1] or 1)]
    removed, added = len(set(before) - set(after)), len(set(after) - set(before))
    examples = f": {', '.join(moved[:10])}{' …' if len(moved) > 10 else ''}" if moved else ""
    return [
        DriftRow(name="genes only in one version", reference=str(removed), current=str(added)),
        DriftRow(
            name=f"genes whose mean moved by more than {SHIFT} sd", reference="0", current=f"{len(moved)}{examples}"
        ),
    ]
