"""How far a data version has moved from the last accepted one.

A profile holds the shares of each clinical column's classes, or of its tenths, and mean and sd of each gene. The
population stability index of two such shares a and b is sum((b - a) * ln(b / a)): below 0.1 steady, above 0.25 another
population (Siddiqi, Credit Risk Scorecards, Wiley 2006, p. 136).
"""

from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from mcti import storage
from mcti.errors import DataError
from mcti.storage import Location

SHIFT = 0.5  # accepted standard deviations by which a gene's mean must move to be counted
_FLOOR = 1e-4  # an empty class would make the index infinite


class ColumnProfile(BaseModel):
    """Shares of one clinical column: of its words, or of the parts between `edges`; missing values are one more."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    edges: tuple[float, ...] = ()
    shares: dict[str, float]


class DataProfile(BaseModel):
    """What is kept of a data version to compare the next one with."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    md5: str
    numbers: dict[str, float]
    columns: dict[str, ColumnProfile]
    genes: dict[str, tuple[float, float]]


class DriftRow(BaseModel):
    """One line of a comparison; `psi` only where shares are compared."""

    model_config = ConfigDict(frozen=True)
    what: str
    accepted: str
    now: str
    psi: float | None = None


class Drift(BaseModel):
    """A data version against the accepted one."""

    model_config = ConfigDict(frozen=True)
    accepted_md5: str
    rows: tuple[DriftRow, ...]


def profile(patients: pd.DataFrame, genes: pd.DataFrame, numbers: dict[str, float], md5: str) -> DataProfile:
    """The profile of a data version from its canonical patients and the table of its genes."""
    columns = {str(name): _column(patients[name]) for name in patients.columns if name != "patient_id"}
    moments = zip(genes["gene"], genes["mean"], genes["sd"], strict=True)
    known = {str(g): (_rounded(m), _rounded(s)) for g, m, s in moments if np.isfinite(m) and np.isfinite(s)}
    return DataProfile(md5=md5, numbers=numbers, columns=columns, genes=known)


def read(location: Location) -> DataProfile:
    """profile.json of an accepted version.

    Raises
        DataError: there is none, or it is something else.
    """
    try:
        return DataProfile.model_validate(storage.read_json(location))
    except ValidationError as error:
        hint = "name the profile.json of a validation that passed"
        raise DataError("no profile of a data version", str(location), hint) from error


def compare(patients: pd.DataFrame, now: DataProfile, accepted: DataProfile) -> Drift:
    """Numbers, shares and genes of both versions side by side."""
    rows = [
        DriftRow(what=name, accepted=_shown(accepted.numbers.get(name)), now=_shown(now.numbers.get(name)))
        for name in dict.fromkeys([*now.numbers, *accepted.numbers])
    ]
    for name in sorted(set(now.columns) | set(accepted.columns)):
        if name not in now.columns or name not in accepted.columns:
            there, here = ("yes" if name in side.columns else "no" for side in (accepted, now))
            rows.append(DriftRow(what=f"column {name}", accepted=there, now=here))
            continue
        before = accepted.columns[name]
        after = _column(patients[name], before.edges)
        rows.append(
            DriftRow(what=name, accepted=_words(before), now=_words(now.columns[name]), psi=_index(before, after))
        )
    return Drift(accepted_md5=accepted.md5, rows=(*rows, *_gene_rows(now, accepted)))


def _column(values: "pd.Series[Any]", edges: tuple[float, ...] = ()) -> ColumnProfile:
    if not pd.api.types.is_numeric_dtype(values) or (not edges and values.nunique() <= 10):
        return ColumnProfile(shares=_shares(values.map(lambda v: "missing" if pd.isna(v) else _word(v)).tolist()))
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    known = numbers[np.isfinite(numbers)]
    edges = edges or tuple(float(edge) for edge in np.unique(np.quantile(known, np.arange(1, 10) / 10)))
    part = np.searchsorted(edges, numbers, side="right")
    return ColumnProfile(
        edges=edges, shares=_shares(["missing" if np.isnan(v) else str(p) for v, p in zip(numbers, part, strict=True)])
    )


def _shown(value: float | None) -> str:
    return "not measured" if value is None else f"{round(value, 4) + 0.0:.9g}"  # + 0.0: no -0


def _word(value: object) -> str:
    return f"{float(value):g}" if isinstance(value, int | float | np.number) else str(value)


def _shares(words: list[str]) -> dict[str, float]:
    counts = pd.Series(words, dtype=object).value_counts(normalize=True)
    return {str(word): _rounded(share) for word, share in sorted(counts.items())}


def _rounded(value: float) -> float:
    return float(f"{value:.9g}")


def _index(before: ColumnProfile, after: ColumnProfile) -> float:
    words = sorted(set(before.shares) | set(after.shares))
    a = np.array([max(before.shares.get(word, 0.0), _FLOOR) for word in words])
    b = np.array([max(after.shares.get(word, 0.0), _FLOOR) for word in words])
    return round(float(((b - a) * np.log(b / a)).sum()), 4)


def _words(column: ColumnProfile) -> str:
    if column.edges:
        gaps = column.shares.get("missing", 0.0)
        return f"median {column.edges[len(column.edges) // 2]:.4g}" + (f", {gaps:.0%} missing" if gaps else "")
    top = sorted(column.shares.items(), key=lambda pair: -pair[1])[:4]
    return ", ".join(f"{word} {share:.0%}" for word, share in top) + (" …" if len(column.shares) > 4 else "")


def _gene_rows(now: DataProfile, accepted: DataProfile) -> list[DriftRow]:
    both = sorted(set(now.genes) & set(accepted.genes))
    moved = [g for g in both if abs(now.genes[g][0] - accepted.genes[g][0]) > SHIFT * (accepted.genes[g][1] or 1)]
    gone, new = len(set(accepted.genes) - set(now.genes)), len(set(now.genes) - set(accepted.genes))
    named = f": {', '.join(moved[:10])}{' …' if len(moved) > 10 else ''}" if moved else ""
    return [
        DriftRow(what="genes gone, genes new", accepted=str(gone), now=str(new)),
        DriftRow(what=f"genes whose mean moved by more than {SHIFT} sd", accepted="0", now=f"{len(moved)}{named}"),
    ]
