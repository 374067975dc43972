"""Claim: a small cohort gains at least as much from other cohorts as by one plain joint ridge fit with them.

Run    python -m benchmarks.transfer_small [--data FOLDER] [--events 25 50] [--draws 5] [--workers 2]
       half an hour of two cores
Reads  FOLDER (default ../shared/data/tcga), as benchmarks/tcga_study.py
A target has the patients of sites that are drawn until they have that many events; the patients of all other sites of
the cohort are the test part, and the other cohorts are the sources. Prints the mean C over the draws of the baseline
`linear_all`, fitted on the target alone, and the differences from it of
  own      the Cox branch without sources
  sources  the Cox branch with them
  plain    one ridge Cox fit on the genes that all cohorts have, mean and sd of the bags, age and sex, standardised
           within each cohort and stratified by cohort; a source patient weighs 1/4; penalty 1000, of age and sex 10;
           no choice and no slope
and, in the second table, the gain of each in log partial likelihood of the test part over no model, per 100 events: it
also reads whether the size of the effects is right, as the mean with the network does.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks import study_data
from benchmarks.tcga_study import DATA, settings
from benchmarks.transfer_linear import cohort, measured, with_genes
from mcti.arrays import FloatArray, IntArray
from mcti.concordance import harrell_c
from mcti.evaluation import baselines
from mcti.model import cox
from mcti.training import cox_transfer, fit_cox_branch, folds
from mcti.training.cox_design import Ratios, Scaled
from mcti.training.cox_inputs import cox_inputs
from mcti.training.cox_transfer import Part

METHODS = ("linear_all", "own", "sources", "plain")
MOST_EVENTS = 1.35
"""Largest number of events of a target, as a multiple of the number of `--events`."""


def main() -> int:
    args = _arguments()

    def jobs(events: int, names: Sequence[str]) -> list[tuple[Any, ...]]:
        return [(args.data, name, events, draw) for name in names for draw in range(args.draws)]

    return measured(args, args.events, jobs, measure, report)


def drawn_sites(chosen: study_data.Cohort, events: int, seed: int) -> tuple[IntArray, IntArray]:
    """Rows of a target with about `events` events, whole sites of every subtype, and the rows of all other sites."""
    site, event = chosen.table["site"].to_numpy(), chosen.patients.inputs.event
    random = np.random.default_rng([events, seed])
    for _ in range(10_000):
        taken = np.zeros(len(site), dtype=bool)
        for one in random.permutation(np.unique(site)):
            if event[taken].sum() < events and event[taken | (site == one)].sum() <= MOST_EVENTS * events:
                taken |= site == one
        if event[taken].sum() >= events and set(chosen.subtype[taken]) == set(chosen.subtype):
            return np.flatnonzero(taken), np.flatnonzero(~taken)
    raise SystemExit(f"{chosen.name} has no sites with about {events} events and every subtype")


def measure(data: Path, name: str, events: int, draw: int) -> dict[str, tuple[float, float]]:
    """(C, gain in log partial likelihood per 100 events) of each method on the test part of a draw."""
    torch.set_num_threads(1)
    chosen = cohort(data, name)
    train, test = drawn_sites(chosen, events, draw)
    task = folds.prepare(chosen.patients.data, chosen.patients.bags(train), settings(chosen, 0), (), f"{name} {draw}")
    others = [with_genes(cohort(data, n), chosen.patients.data) for n in study_data.names(data) if n != name]
    sources = [fit_cox_branch.source_part(task.config, other, "none") for other in others]
    bags = chosen.patients.bags(test)
    target, tested = (
        fit_cox_branch.part(cox_inputs(task.fitted, task.config, part), part) for part in (task.bags, bags)
    )
    with threadpool_limits(1):
        linear = baselines.create("linear_all").fit(chosen.patients.inputs.rows(train), 0)
        scores = {
            "linear_all": linear.predict(chosen.patients.inputs.rows(test), np.array([36.0]))[0],
            "own": _score(tested, cox_transfer.fit_score(target, [], None, 0).ratios),
            "sources": _score(tested, cox_transfer.fit_score(target, sources, None, 0).ratios),
            "plain": _score(tested, plain(target, sources)),
        }
    print(f"{name}, draw {draw}, {int(target.event.sum())} events", file=sys.stderr, flush=True)
    return {method: _figures(tested, score) for method, score in scores.items()}


def plain(target: Part, sources: Sequence[Part], weight: float = 0.25, penalty: float = 1000.0) -> Ratios:
    """Log hazard ratios of the joint ridge fit of all columns, along their 500 first principal axes (not whitened)."""
    known = torch.stack([part.tables["genes"].std(0) > 0 for part in (target, *sources)]).all(0)
    factors = {"genes": known.double(), "slides": torch.ones(1).double(), "covariates": torch.full((1,), 10.0).double()}
    scaled = [Scaled.fit(part.tables) for part in (target, *sources)]
    rows = [torch.cat([one.tables[n] * factors[n] for n in target.tables], 1).numpy() for one in scaled]
    axes = np.linalg.svd(np.vstack(rows), full_matrices=False)[2][:500].T
    strata = [
        cox.Stratum(table @ axes, part.event, part.time_months, None, weight if number else 1.0)
        for number, (table, part) in enumerate(zip(rows, (target, *sources), strict=True))
    ]
    values = torch.from_numpy(axes @ cox.stratified_coefficients(strata, penalty))
    parts = torch.split(values, [table.shape[1] for table in target.tables.values()])
    named = zip(target.tables, parts, strict=True)
    return {name: part * factors[name] * scaled[0].factors[name] for name, part in named}


def _score(part: Part, ratios: Ratios) -> FloatArray:
    return sum((table @ ratios[name] for name, table in part.tables.items()), torch.zeros(1)).numpy()


def _figures(part: Part, score: FloatArray) -> tuple[float, float]:
    model, none = (
        cox.log_partial_likelihood(score[:, None], part.event, part.time_months, np.array([factor]))
        for factor in (1.0, 0.0)
    )
    return harrell_c(part.event, part.time_months, score), 100 * (model - none) / int(part.event.sum())


def report(events: int, figures: Mapping[str, Sequence[Mapping[str, tuple[float, float]]]]) -> None:
    """Two tables: C, and the gain in log partial likelihood; one row per cohort and one of the means."""
    for position, title in enumerate(("C", "gain in log partial likelihood per 100 events")):
        print(f"\ntargets of {events} events: {title}\n| cohort | " + " | ".join(METHODS) + " |")
        print("|" + "---|" * (len(METHODS) + 1))
        rows = {
            name: [np.mean([one[m][position] for one in draws]) for m in METHODS] for name, draws in figures.items()
        }
        rows["mean"] = list(np.mean(list(rows.values()), axis=0))
        for name, row in rows.items():
            cells = [f"{v - row[0]:+.3f}" for v in row[1:]] if position == 0 else [f"{v:.1f}" for v in row[1:]]
            print(f"| {name} | {row[0]:.3f} | " + " | ".join(cells) + " |", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the cohorts")
    parser.add_argument("--events", type=int, nargs="+", default=[25, 50], help="events of a target")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
