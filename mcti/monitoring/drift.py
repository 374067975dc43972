"""Whether later patients look like those that a model was trained on: two-sample tests against its sketch.

Values     Kolmogorov-Smirnov. The largest distance of the two empirical distribution functions is taken over the
           sketch's knots, where the training part's function is known exactly: never more than the distance over all
           values, so the p-value errs on the safe side.
Gaps       Fisher's exact test of the shares of patients without a value.
Many       Columns of a family: Benjamini and Hochberg (1995, JRSS B 57:289-300). The smallest adjusted p of a family
           is Simes' p of "nothing in this family moved"; over the families Holm. The chance that a run without drift
           raises an alarm is at most `alpha` (docs/monitoring.md; measured in tests/monitoring/test_drift.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from mcti.arrays import FloatArray
from mcti.model.reference_profile import ColumnProfile, ReferenceProfile, Table
from mcti.params import MonitorParams

GAPS = "missingness"
NOTHING_MISSING = "nothing is missing"
RISK = "risk"


@dataclass(frozen=True)
class Finding:
    """One column against the training part.

    effect    values: largest distance of the distribution functions, 0 to 1; gaps: difference of the shares
    shift     values: difference of the medians in units of the training part's half interquartile range (None where
              that is 0); risk: the distance with its sign, above 0 where risks rose; gaps: as the effect
    p         of this column alone;  q: adjusted within its family
    """

    column: str
    known: int
    effect: float
    shift: float | None
    p: float
    q: float


@dataclass(frozen=True)
class Family:
    """Columns that are one question. p: Simes' within the family, then Holm's over the families; NaN: not tested.

    drifted  p at most alpha, and a column that stands out with an effect of at least `min_effect`
    """

    name: str
    tested: int
    p: float
    drifted: bool
    findings: tuple[Finding, ...]
    why_not: str = ""

    @property
    def known(self) -> bool:
        """Whether the question was answered: columns were tested, or no value was missing that could be."""
        return self.tested > 0 or self.why_not == NOTHING_MISSING

    @property
    def largest(self) -> float:
        """The largest effect of the columns tested; 0 where none was."""
        return max((abs(finding.effect) for finding in self.findings), default=0.0)


def compare(sketch: ReferenceProfile, later: Table, risks: "Risks", params: MonitorParams) -> tuple[Family, ...]:
    """Every family of columns, the risk and the gaps; later: `column_values` of the later patients."""
    raw = {name: _values(part, later.get(name, {}), params) for name, part in sketch.families.items()}
    raw.pop("modalities", None)  # present or not: their gaps are what is tested
    raw[RISK] = _risk(risks, params)
    raw[GAPS] = _gaps(sketch, later, params)
    simes = {name: min((finding.q for finding in found), default=float("nan")) for name, (found, _) in raw.items()}
    p_values = holm(simes)
    return tuple(_family(name, *found, p_values[name], params) for name, found in raw.items())


@dataclass(frozen=True)
class Risks:
    """Risks of later patients, each by one member, beside the out-of-fold risks that this member gave.

    The mean over members spreads less than the risks of single ones and would look like drift by itself.
    columns {member: out-of-fold risks};  later {member: (n,) risks of the later patients that it was asked for}
    """

    columns: Mapping[str, ColumnProfile]
    later: Mapping[str, FloatArray]


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment (1979, Scand. J. Statist. 6:65-70); NaN stays NaN and does not count."""
    known = sorted((p, name) for name, p in p_values.items() if not np.isnan(p))
    adjusted, highest = dict.fromkeys(p_values, float("nan")), 0.0
    for rank, (p, name) in enumerate(known):
        highest = max(highest, min(1.0, p * (len(known) - rank)))
        adjusted[name] = highest
    return adjusted


Found = tuple[list[Finding], str]
"""The findings of a family, and why there are none."""


def _values(reference: Mapping[str, ColumnProfile], later: Mapping[str, FloatArray], params: MonitorParams) -> Found:
    tested, distances, sizes, shifts = [], [], [], []
    for name, column in reference.items():
        values = later.get(name, np.zeros(0))
        values = values[np.isfinite(values)]
        if len(values) < params.min_patients or not column.quantile_grid or column.known < params.min_patients:
            continue
        share = np.searchsorted(np.sort(values), column.quantile_grid, side="right") / len(values)
        distances.append(float(np.abs(share - np.array(column.below) / column.known).max()))
        sizes.append((len(values), column.known))
        shifts.append(_shift(column, float(np.median(values))))
        tested.append(name)
    if not tested:
        return [], f"fewer than {params.min_patients} patients with a value, here or in training"
    return _adjusted(tested, sizes, distances, shifts, ks_p(np.array(distances), np.array(sizes))), ""


def ks_p(distance: FloatArray, sizes: np.ndarray) -> FloatArray:
    """P(distance or more) of two samples from one distribution; distance (k,), sizes (k, 2).

    Kolmogorov's limit with Stephens' correction for finite samples (1970, JRSS B 32:115-122); within 10 % of the exact
    one-sample p where it matters, and a thousand times as fast, which genes by the thousand need.
    """
    from scipy import special

    root = np.sqrt(sizes[:, 0] * sizes[:, 1] / sizes.sum(axis=1))
    return np.asarray(special.kolmogorov((root + 0.12 + 0.11 / root) * distance), dtype=np.float64)


def _shift(column: ColumnProfile, median: float) -> float | None:
    half = (column.quantile(0.75) - column.quantile(0.25)) / 2
    return (median - column.quantile(0.5)) / half if half > 0 else None


def _adjusted(
    names: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    effects: Sequence[float],
    shifts: Sequence[float | None],
    p_values: FloatArray,
) -> list[Finding]:
    from scipy import stats

    q_values = stats.false_discovery_control(np.clip(p_values, 0, 1), method="bh")
    rows = zip(names, sizes, effects, shifts, p_values, q_values, strict=True)
    return [Finding(name, n, e, s, float(p), float(q)) for name, (n, _), e, s, p, q in rows]


def _risk(risks: Risks, params: MonitorParams) -> Found:
    """One test over all members: where a risk lies among the knots of its member, later against out of fold."""
    asked = {name: values for name, values in risks.later.items() if len(values) and risks.columns[name].quantile_grid}
    later, known = (sum(map(len, asked.values())), sum(risks.columns[name].known for name in asked))
    if later < params.min_patients or known < params.min_patients:
        return [], f"fewer than {params.min_patients} risks, here or out of fold"
    common = min(len(risks.columns[name].quantile_grid) for name in asked)
    here, there = np.zeros(common), np.zeros(common)
    for name, values in asked.items():
        column = risks.columns[name]
        chosen = np.linspace(0, len(column.quantile_grid) - 1, common).round().astype(int)
        # A member counts out of fold as often as it was asked now, so that only the risks can differ.
        here += np.searchsorted(np.sort(values), np.array(column.quantile_grid)[chosen], side="right") / later
        there += len(values) / later * np.array(column.below)[chosen] / column.known
    distance = np.array([np.abs(here - there).max()])
    sizes = [(later, known)]
    up = float((there - here)[np.abs(here - there).argmax()])  # above 0: the later patients have higher risks
    return _adjusted(["risk"], sizes, [float(distance[0])], [up], ks_p(distance, np.array(sizes))), ""


@lru_cache(maxsize=4096)
def fisher(gaps: int, patients: int, missing: int, rows: int) -> float:
    """Two-sided p of `gaps` of `patients` against `missing` of `rows`; many genes share their counts."""
    from scipy import stats

    return float(stats.fisher_exact(np.array([[gaps, patients - gaps], [missing, rows - missing]])).pvalue)


def _gaps(sketch: ReferenceProfile, later: Table, params: MonitorParams) -> Found:
    names, sizes, effects, p_values = [], [], [], []
    for family, part in sketch.families.items():
        for column, reference in part.items():
            values = later.get(family, {}).get(column)
            if values is None or len(values) < params.min_patients or reference.rows < params.min_patients:
                continue
            gaps = int((~np.isfinite(values)).sum())
            if gaps == reference.missing == 0:
                continue
            names.append(f"{family} {column}")
            sizes.append((len(values), reference.rows))
            effects.append(gaps / len(values) - reference.missing / reference.rows)
            p_values.append(fisher(gaps, len(values), reference.missing, reference.rows))
    if not names:
        enough = max((len(v) for part in later.values() for v in part.values()), default=0) >= params.min_patients
        return [], NOTHING_MISSING if enough else f"fewer than {params.min_patients} patients"
    return _adjusted(names, sizes, effects, list(effects), np.array(p_values)), ""


def _family(name: str, findings: list[Finding], why_not: str, p: float, params: MonitorParams) -> Family:
    ordered = tuple(sorted(findings, key=lambda f: (f.q, -abs(f.effect), f.column)))
    stands_out = any(f.q <= params.alpha and abs(f.effect) >= params.min_effect for f in ordered)
    return Family(name, len(ordered), p, bool(p <= params.alpha and stands_out), ordered, why_not)


def as_json(families: Sequence[Family]) -> dict[str, Any]:
    """Every column tested, for programs; what is not known is null."""
    return {
        family.name: {
            "tested": family.tested,
            "p": family.p if np.isfinite(family.p) else None,
            "drifted": family.drifted,
            "why_not": family.why_not,
            "columns": [{**vars(finding)} for finding in family.findings],
        }
        for family in families
    }
