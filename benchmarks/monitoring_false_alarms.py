"""Claim: on a real cohort without drift, the rate of alarms is at most `monitor.alpha`; a real change is detected.

Patients, genes and slide features are those of TCGA (../shared/data). Each run splits the patients at random: a
fraction `later` is compared with the others, which represent the training part; the two do not differ. The control
splits them by a known difference: another disease (subtype), another hospital (site). The risk is a fixed sum of
genes: a fitted one would require one training per run; tests/monitoring/test_drift.py has one.
Run: python -m benchmarks.monitoring_false_alarms [--cohort brca] [--runs 500] [--data ../shared/data/tcga]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.study_data import read
from mcti.model import reference_profile
from mcti.model.reference_profile import ColumnProfile, ReferenceProfile, Table
from mcti.monitoring import drift
from mcti.params import MonitorParams


def part_of(table: Table, rows: np.ndarray) -> Table:
    """The rows of each column."""
    return {name: {c: values[rows] for c, values in part.items()} for name, part in table.items()}


def alarms(
    table: Table, risk: np.ndarray, before: np.ndarray, later: np.ndarray, levels: Sequence[MonitorParams]
) -> list[list[str]]:
    """The families that drifted between two sets of patients, at each level."""
    trained = part_of(table, before)
    families = {name: {c: ColumnProfile.fit(values) for c, values in part.items()} for name, part in trained.items()}
    out_of_fold = ColumnProfile.fit(risk[before], between=2)
    profile = ReferenceProfile(len(before), 0, families, {}, out_of_fold)
    risks, new = drift.MemberRisks({"one": out_of_fold}, {"one": risk[later]}), part_of(table, later)
    return [[f.name for f in drift.compare(profile, new, risks, params) if f.drifted] for params in levels]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tcga"))
    parser.add_argument("--cohort", default="brca")
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--later", type=float, default=0.25)
    options = parser.parse_args()
    cohort = read(options.data, options.cohort, folds=2, repeats=1)
    patients = [bag for _, bag in sorted(cohort.patients.data.bags.items())]
    frame = cohort.table.sort_values("patient_id")
    table = reference_profile.column_values(patients, cohort.patients.data.genes)
    genes = np.stack(list(table["genes"].values()))
    risk = np.random.default_rng(0).normal(size=len(genes)) @ np.nan_to_num(genes) / np.sqrt(len(genes))
    count, size = len(patients), round(len(patients) * options.later)
    columns = sum(map(len, table.values()))
    print(f"{options.cohort}: {count} patients, {columns} columns, {size} of them later, {options.runs} runs")
    draw = np.random.default_rng(1)
    orders = [draw.permutation(count) for _ in range(options.runs)]
    # No minimum effect: the tests alone must keep the level.
    levels = [MonitorParams(alpha=alpha, min_effect=0.0) for alpha in (0.01, 0.05)]
    results = [alarms(table, risk, order[size:], order[:size], levels) for order in orders]
    for level, params in enumerate(levels):
        hits = sum(bool(run[level]) for run in results)
        low, high = stats.binomtest(hits, options.runs).proportion_ci(method="exact")
        print(f"no drift, alpha {params.alpha}: {hits} of {options.runs} runs alarm [{low:.3f}, {high:.3f}]")
        assert stats.binomtest(hits, options.runs, params.alpha, alternative="greater").pvalue > 0.001
    for name, later in _changes(frame["subtype"].to_numpy(), frame["site"].to_numpy()).items():
        (families,) = alarms(table, risk, np.flatnonzero(~later), np.flatnonzero(later), [MonitorParams()])
        print(f"control, {name} ({later.sum()} patients): {', '.join(families) or 'no alarm'}")
    return 0


def _changes(subtype: np.ndarray, site: np.ndarray) -> dict[str, np.ndarray]:
    """Patients who differ: those of the rarer subtype, and those of the largest site."""
    rare = min(set(subtype), key=list(subtype).count)
    large = max(set(site), key=list(site).count)
    return {f"only {rare} later": subtype == rare, f"only site {large} later": site == large}


if __name__ == "__main__":
    sys.exit(main())
