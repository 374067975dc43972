"""Drift of later patients from the training patients of a model: two-sample tests against its reference profile.

Values        Kolmogorov-Smirnov. The largest distance of the two empirical distribution functions is taken over the
              quantile grid of the profile, where the training part's function is known exactly. It is at most the
              distance over all values, so the p-value is conservative.
Missingness   Fisher's exact test of the shares of patients without a value.
Multiplicity  Columns of a family: Benjamini and Hochberg (1995, JRSS B 57:289-300). The smallest adjusted p of a family
              is Simes' p of "no column of this family drifted"; over the families Holm. The probability that a run
              without drift raises an alarm is at most `alpha` (docs/monitoring.md; measured in
              tests/monitoring/test_drift.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from mcti.arrays import FloatArray
from mcti.model.reference_profile import ColumnProfile, ReferenceProfile, Table
from mcti.params import MonitorParams

MISSINGNESS = "missingness"
NOTHING_MISSING = "nothing is missing"
RISK = "risk"


@dataclass(frozen=True)
class ColumnTest:
    """The test of one column against the training part.

    known     later patients with a value
    effect    values: largest distance of the distribution functions, 0 to 1; missingness: difference of the shares
    shift     values: difference of the medians in units of the training part's half interquartile range (None where
              that is 0); risk: the signed distance, positive where risks increased; missingness: as the effect
    p         of this column;  q: adjusted within its family
    """

    column: str
    known: int
    effect: float
    shift: float | None
    p: float
    q: float


@dataclass(frozen=True)
class Family:
    """A family of columns. p: Simes within the family, then Holm over the families; NaN: not tested.

    drifted     p is at most alpha, and one column has q at most alpha and an effect of at least `min_effect`
    not_tested  the reason where no column was tested
    """

    name: str
    tested: int
    p: float
    drifted: bool
    columns: tuple[ColumnTest, ...]
    not_tested: str = ""

    @property
    def known(self) -> bool:
        """Whether there is a result: columns were tested, or no value is missing on either side."""
        return self.tested > 0 or self.not_tested == NOTHING_MISSING

    @property
    def largest(self) -> float:
        """The largest effect of the tested columns; 0 where none was tested."""
        return max((abs(column.effect) for column in self.columns), default=0.0)


def compare(profile: ReferenceProfile, later: Table, risks: "MemberRisks", params: MonitorParams) -> tuple[Family, ...]:
    """Test every family of columns, the risk and the missingness; later: `column_values` of the later patients."""
    raw = {name: _values(part, later.get(name, {}), params) for name, part in profile.families.items()}
    raw.pop("modalities", None)  # presence of a modality is tested as missingness
    raw[RISK] = _risk(risks, params)
    raw[MISSINGNESS] = _missingness(profile, later, params)
    simes = {name: min((column.q for column in columns), default=float("nan")) for name, (columns, _) in raw.items()}
    p_values = holm(simes)
    return tuple(_family(name, *result, p_values[name], params) for name, result in raw.items())


@dataclass(frozen=True)
class MemberRisks:
    """Risks of later patients, each by one member, and the out-of-fold risks of the same member.

    The mean over members has a smaller spread than the risks of single members and would itself appear as drift.
    columns {member: out-of-fold risks};  later {member: (n,) risks of the later patients assigned to it}
    """

    columns: Mapping[str, ColumnProfile]
    later: Mapping[str, FloatArray]


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values with Holm's step-down adjustment (1979, Scand. J. Statist. 6:65-70), between 0 and 1.

    NaN remains NaN and is not counted.
    """
    defined = sorted((p, name) for name, p in p_values.items() if not np.isnan(p))
    adjusted, highest = dict.fromkeys(p_values, float("nan")), 0.0
    for rank, (p, name) in enumerate(defined):
        highest = max(highest, min(1.0, p * (len(defined) - rank)))
        adjusted[name] = highest
    return adjusted


FamilyTests = tuple[list[ColumnTest], str]
"""The tests of a family, and the reason where there are none."""


def _values(
    reference: Mapping[str, ColumnProfile], later: Mapping[str, FloatArray], params: MonitorParams
) -> FamilyTests:
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
        return [], f"fewer than {params.min_patients} patients with a value, among the new or the training patients"
    return _adjusted(tested, sizes, distances, shifts, ks_p(np.array(distances), np.array(sizes))), ""


def ks_p(distance: FloatArray, sizes: np.ndarray) -> FloatArray:
    """P(distance or more) of two samples from one distribution; distance (k,), sizes (k, 2).

    Kolmogorov's limit with Stephens' correction for finite samples (1970, JRSS B 32:115-122); within 10 % of the exact
    one-sample p in the relevant range and a thousand times as fast, which thousands of genes require.
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
) -> list[ColumnTest]:
    from scipy import stats

    q_values = stats.false_discovery_control(np.clip(p_values, 0, 1), method="bh")
    rows = zip(names, sizes, effects, shifts, p_values, q_values, strict=True)
    return [ColumnTest(name, n, e, s, float(p), float(q)) for name, (n, _), e, s, p, q in rows]


def _risk(risks: MemberRisks, params: MonitorParams) -> FamilyTests:
    """One test over all members: later against out-of-fold risks, each on the quantile grid of its member."""
    assigned = {
        name: values for name, values in risks.later.items() if len(values) and risks.columns[name].quantile_grid
    }
    later, known = (sum(map(len, assigned.values())), sum(risks.columns[name].known for name in assigned))
    if later < params.min_patients or known < params.min_patients:
        return [], f"fewer than {params.min_patients} risks, among the new patients or out of fold"
    common = min(len(risks.columns[name].quantile_grid) for name in assigned)
    new, reference = np.zeros(common), np.zeros(common)
    for name, values in assigned.items():
        column = risks.columns[name]
        chosen = np.linspace(0, len(column.quantile_grid) - 1, common).round().astype(int)
        # Each member has the same weight on both sides, so that only the risks can differ.
        new += np.searchsorted(np.sort(values), np.array(column.quantile_grid)[chosen], side="right") / later
        reference += len(values) / later * np.array(column.below)[chosen] / column.known
    distance = np.array([np.abs(new - reference).max()])
    sizes = [(later, known)]
    signed = float(
        (reference - new)[np.abs(new - reference).argmax()]
    )  # positive: the later patients have higher risks
    return _adjusted(["risk"], sizes, [float(distance[0])], [signed], ks_p(distance, np.array(sizes))), ""


@lru_cache(maxsize=4096)
def fisher(gaps: int, patients: int, missing: int, rows: int) -> float:
    """Two-sided p of `gaps` of `patients` against `missing` of `rows`; cached, since many genes have equal counts."""
    from scipy import stats

    return float(stats.fisher_exact(np.array([[gaps, patients - gaps], [missing, rows - missing]])).pvalue)


def _missingness(profile: ReferenceProfile, later: Table, params: MonitorParams) -> FamilyTests:
    names, sizes, effects, p_values = [], [], [], []
    for family, part in profile.families.items():
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


def _family(name: str, tests: list[ColumnTest], not_tested: str, p: float, params: MonitorParams) -> Family:
    ordered = tuple(sorted(tests, key=lambda test: (test.q, -abs(test.effect), test.column)))
    relevant = any(test.q <= params.alpha and abs(test.effect) >= params.min_effect for test in ordered)
    return Family(name, len(ordered), p, bool(p <= params.alpha and relevant), ordered, not_tested)


def as_json(families: Sequence[Family]) -> dict[str, Any]:
    """Every tested column as plain values; an unknown value is None."""
    return {
        family.name: {
            "tested": family.tested,
            "p": family.p if np.isfinite(family.p) else None,
            "drifted": family.drifted,
            "not_tested": family.not_tested,
            "columns": [{**vars(column)} for column in family.columns],
        }
        for family in families
    }
