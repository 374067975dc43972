"""Claim: the Cox branch with other cohorts as sources ranks patients better than the linear model of their own cohort.

Run    python -m benchmarks.transfer_linear [--data FOLDER] [--workers 2]     five minutes of two cores
Reads  FOLDER (default ../shared/data/tcga), as benchmarks/tcga_study.py
Prints C within five folds by site (Harrell, weighted by comparable pairs) of the baseline `linear_all` of the cohort,
       and the differences from it of the Cox branch alone (no network): without transfer, with the other cohorts as
       sources, with a Cox branch of the other cohorts as prior, and with sources whose outcomes are permuted; for whole
       training parts and for a share of each, and the mean over the cohorts with its interval by resampled patients.
The weights are chosen inside each training part. The lists that they are chosen from, axes and penalties were picked
with these cohorts in view (docs/decisions/0007-transfer-cox.md), so that gains measured on them are optimistic.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks import study_data
from benchmarks.tcga_study import DATA, settings
from mcti.arrays import FloatArray, IntArray
from mcti.concordance import harrell_c
from mcti.dataset.bags import Dataset, PatientBag
from mcti.evaluation import baselines
from mcti.training import cox_transfer, fit_cox_branch, folds
from mcti.training.cox_inputs import cox_inputs
from mcti.training.run import Task

Variant = TypeVar("Variant")
Result = TypeVar("Result")
METHODS = ("linear_all", "own", "sources", "prior", "permuted")
"""The baseline, and the Cox branch: of the cohort alone, with the others as sources, with their mean Cox branch as
prior, and with the others as sources whose outcomes are permuted."""


@cache
def cohort(data: Path, name: str) -> study_data.Cohort:
    return study_data.read(data, name, 5, 1)


def main() -> int:
    args = _arguments()
    methods = ("linear_all", *args.methods)

    def jobs(share: float, names: Sequence[str]) -> list[tuple[Any, ...]]:
        return [(args.data, name, fold, share, methods) for name in names for fold in range(5)]

    return measured(args, args.shares, jobs, scores, lambda *results: report(args.data, methods, *results))


def measured(
    args: argparse.Namespace,
    variants: Iterable[Variant],
    jobs: Callable[[Variant, Sequence[str]], Sequence[tuple[Any, ...]]],
    measure: Callable[..., Result],
    report: Callable[[Variant, Mapping[str, Sequence[Result]]], None],
) -> int:
    """Measure each variant in `args.workers` processes and report it; the exit code.

    jobs     arguments of `measure` for a variant and the names of the cohorts; the second one is that of the cohort
    report   prints the results of a variant, by cohort
    """
    if not args.data.is_dir():
        print(f"the cohorts are not at {args.data}: nothing to measure")
        return 0
    names = study_data.names(args.data)
    with ProcessPoolExecutor(args.workers) as pool:
        for variant in variants:
            planned = jobs(variant, names)
            results = list(zip(planned, pool.map(measure, *zip(*planned, strict=True)), strict=True))
            report(variant, {name: [one for job, one in results if job[1] == name] for name in names})
    return 0


def scores(data: Path, name: str, fold: int, share: float, methods: Sequence[str]) -> dict[str, FloatArray]:
    """The risks of the test patients of a fold by each method."""
    torch.set_num_threads(1)
    chosen, split = cohort(data, name), cohort(data, name).folds["site"][fold]
    train, test = subset(chosen, split.train, share, fold), chosen.patients.bags(split.test)
    others = [with_genes(cohort(data, n), chosen.patients.data) for n in study_data.names(data) if n != name]
    task = folds.prepare(chosen.patients.data, chosen.patients.bags(train), settings(chosen, 0), (), f"{name} {fold}")
    with threadpool_limits(1):
        linear = baselines.create("linear_all").fit(chosen.patients.inputs.rows(train), 0)
        risks = {"linear_all": linear.predict(chosen.patients.inputs.rows(split.test), np.array([36.0]))[0]}
        for method in methods[1:]:
            risks[method] = branch_risks(method, task, others, test)
    print(f"{name}, fold {fold}, share {share:g}", file=sys.stderr, flush=True)
    return risks


def subset(chosen: study_data.Cohort, rows: IntArray, share: float, seed: int) -> IntArray:
    """A share of the events and of the other patients of a training part."""
    event, random = chosen.patients.inputs.event[rows], np.random.default_rng(seed)
    parts = [random.permutation(part)[: round(share * len(part))] for part in (rows[event], rows[~event])]
    return np.sort(np.concatenate(parts))


def with_genes(other: study_data.Cohort, target: Dataset) -> Dataset:
    return other.patients.data.with_genes(target.genes)


def permuted(data: Dataset, seed: int) -> Dataset:
    """The same cohort with the outcomes of its patients permuted: a source without information."""
    bags = list(data.bags.values())
    order = np.random.default_rng(seed).permutation(len(bags))
    changed = [
        dataclasses.replace(bag, event=bags[k].event, time_months=bags[k].time_months)
        for bag, k in zip(bags, order, strict=True)
    ]
    return dataclasses.replace(data, bags={bag.patient_id: bag for bag in changed})


def branch_risks(method: str, task: Task, others: Sequence[Dataset], test: Sequence[PatientBag]) -> FloatArray:
    """Scores of test patients by the Cox branch of a task, without a network."""
    if method == "permuted":
        others = [permuted(other, number) for number, other in enumerate(others)]
    parts = [] if method == "own" else [fit_cox_branch.source_part(task.config, other, "none") for other in others]
    prior = mean_branch(parts) if method == "prior" else None
    tables, new = (cox_inputs(task.fitted, task.config, bags) for bags in (task.bags, test))
    target, sources = fit_cox_branch.part(tables, task.bags), [] if prior else parts
    ratios = cox_transfer.fit_score(target, sources, prior, task.params.seed, task.where).ratios
    return sum((new[name] @ ratios[name] for name in new), torch.zeros(1)).numpy()


def mean_branch(parts: Sequence[cox_transfer.Part]) -> dict[str, torch.Tensor]:
    """The mean Cox branch of several cohorts, each fitted with the others as sources."""
    fitted = [cox_transfer.fit_score(one, [p for p in parts if p is not one], None, 0, "prior").ratios for one in parts]
    return {name: torch.stack([ratios[name] for ratios in fitted]).mean(0) for name in fitted[0]}


def report(
    data: Path, methods: Sequence[str], share: float, results: Mapping[str, Sequence[dict[str, FloatArray]]]
) -> None:
    """One row per cohort and one of the means."""
    print(f"\nshare {share:g} of each training part")
    print("| cohort | linear_all | " + " | ".join(methods[1:]) + " |\n|" + "---|" * (len(methods) + 1))
    values, draws = [], []
    for name, risks in results.items():
        values.append([c_index(data, name, [r[m] for r in risks], None) for m in methods])
        draws.append(resampled(data, name, methods, risks))
        row = values[-1]
        print(f"| {name} | {row[0]:.3f} | " + " | ".join(f"{v - row[0]:+.3f}" for v in row[1:]) + " |")
    means, spread = np.mean(values, axis=0), np.mean(draws, axis=0)
    low, high = np.quantile(spread[:, 1:] - spread[:, :1], [0.025, 0.975], axis=0)
    cells = [f"{m - means[0]:+.3f} [{a:+.3f}, {b:+.3f}]" for m, a, b in zip(means[1:], low, high, strict=True)]
    print(f"| mean | {means[0]:.3f} | " + " | ".join(cells) + " |", flush=True)


def resampled(
    data: Path, name: str, methods: Sequence[str], risks: Sequence[dict[str, FloatArray]], draws: int = 300
) -> FloatArray:
    """(draws, methods) C with the test patients of each fold drawn with replacement."""
    random, rows = np.random.default_rng(0), []
    for _ in range(draws):
        drawn = [random.integers(0, len(r["linear_all"]), len(r["linear_all"])) for r in risks]
        rows.append([c_index(data, name, [r[m] for r in risks], drawn) for m in methods])
    return np.array(rows)


def c_index(data: Path, name: str, risks: Sequence[FloatArray], drawn: Sequence[IntArray] | None) -> float:
    """Harrell's C within folds, weighted by their comparable pairs; drawn: positions in the test part of each fold."""
    inputs, total, pairs = cohort(data, name).patients.inputs, 0.0, 0
    for number, (split, risk) in enumerate(zip(cohort(data, name).folds["site"], risks, strict=True)):
        chosen = np.arange(len(risk)) if drawn is None else drawn[number]
        event, time = inputs.event[split.test][chosen], inputs.time_months[split.test][chosen]
        count = int(((time[None, :] > time[:, None]) & event[:, None]).sum())
        if count:
            total, pairs = total + count * harrell_c(event, time, risk[chosen]), pairs + count
    return total / pairs


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the cohorts")
    parser.add_argument("--shares", type=float, nargs="+", default=[1.0, 0.3], help="shares of the training parts")
    parser.add_argument("--methods", nargs="+", default=METHODS[1:], choices=METHODS[1:], metavar="NAME")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
