"""Claim: on permuted outcomes the mean out-of-fold C is within two standard errors of 0.5, over 50 permutations.

Run    python -m benchmarks.training_null [--permutations 50] [--models mcti linear_all] [--peek]
Reads  ../shared/data/tcga (TCGA-BRCA: real bags, genes, covariates, follow-up); a synthetic cohort where it is missing
Writes study/null/ (the C of each permutation, from which an interrupted run resumes)

Follow-up and event are permuted together; slides, genes, age and subtype stay, so that every possible leak is kept and
a ranking better than chance can only come from one. Each permutation is split into two folds by its own events, fitted
on the one and scored on the other as in the study, with bins, scales and weights of its own.
`--peek` shows the effect of a leak: the test part is part of the training.
Exits with 1 where a mean differs by more than two standard errors from 0.5 (with `--peek`: where none is above it).
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks import model_zoo, study_data, tcga_study
from benchmarks.model_zoo import Patients, RowSplit
from mcti.dataset.bags import Dataset, PatientBag
from mcti.evaluation import comparison, metrics
from mcti.evaluation.design_matrix import Inputs
from mcti.evaluation.outcomes import Outcomes
from mcti.params import TrainParams
from mcti.storage import replacing, text_md5

COVARIATES = ("age",)


def main() -> int:
    args = _arguments()
    patients = read(args.patients) if tcga_study.DATA.is_dir() else synthetic(args.patients)
    c_by_model: dict[str, list[float]] = {name: [] for name in args.models}
    for number in range(args.permutations):
        for name in args.models:
            c_by_model[name].append(stored(args, patients, name, number))
        print(
            f"permutation {number + 1}: " + json.dumps({n: round(c[-1], 3) for n, c in c_by_model.items()}), flush=True
        )
    return report(args, len(patients.inputs.patients), c_by_model)


def stored(args: argparse.Namespace, patients: Patients, name: str, number: int) -> float:
    """The C of one permutation: from its file, or fitted now."""
    key = text_md5(f"{sorted(patients.data.bags)} {tcga_study.SETTINGS} {args.peek}")[:8]
    file = args.out / key / name / f"{number}.json"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        value = c_of(patients, name, number, peek=args.peek)
        with replacing(file) as draft:
            draft.write_text(json.dumps(value), encoding="utf-8")
    return float(json.loads(file.read_text(encoding="utf-8")))


def c_of(patients: Patients, name: str, number: int, *, peek: bool = False, folds: int = 2, **changes: object) -> float:
    """Out-of-fold C of one model on one permutation; `peek`: it is fitted on all patients; `changes` of `train`."""
    shuffled = permuted(patients, number)
    table, risks = shuffled.inputs.patients, []
    parts = study_data.assign_folds(table, "random", folds, 1)
    settings = {**tcga_study.SETTINGS, "architecture": {"covariates": list(COVARIATES)}, "seed": number, **changes}
    params = TrainParams.model_validate(settings)
    for part in parts:
        learned = RowSplit(part.fold, np.arange(len(table)), part.test) if peek else part
        risks.append(model_zoo.fit(name, shuffled, learned, params)(part.test).risk)
    ids = table["patient_id"].to_numpy()
    outcomes = Outcomes.from_folds(table, {p.fold: (list(ids[p.train]), list(ids[p.test])) for p in parts})
    return comparison.point(metrics.c_index(outcomes, np.concatenate(risks)), len(table))


def permuted(patients: Patients, number: int) -> Patients:
    """The patients with permuted follow-up: any association with it is chance."""
    table = patients.inputs.patients.copy()
    drawn = np.random.default_rng([31, number]).permutation(len(table))
    for column in ("time_months", "event"):
        table[column] = table[column].to_numpy()[drawn]
    bags = {
        row["patient_id"]: replace(
            patients.data.bags[row["patient_id"]], time_months=float(row["time_months"]), event=bool(row["event"])
        )
        for row in table.to_dict("records")
    }
    return Patients(replace(patients.inputs, patients=table), replace(patients.data, bags=bags))


def read(most: int) -> Patients:
    """Patients of TCGA-BRCA."""
    return study_data.read(tcga_study.DATA, "brca", 2, 1, most).patients


def synthetic(count: int, genes: int = 20, width: int = 8, patches: int = 6) -> Patients:
    """A cohort of noise with subtypes that the bags show: there is something to learn other than the outcome."""
    random = np.random.default_rng(3)
    ids, second = [f"P-{i:03}" for i in range(count)], random.random(count) < 0.4
    bags = random.normal(size=(count, patches, width)).astype(np.float32) + second[:, None, None]
    death, censored = random.exponential(40, count), random.uniform(6, 120, count)
    table = pd.DataFrame({"patient_id": ids, "site": "A", "age": 50.0 + random.integers(0, 30, count)})
    table["is_female"] = pd.array(random.integers(0, 2, count), dtype="Int8")
    table["subtype"] = np.where(second, "ILC", "IDC")
    table["time_months"], table["event"] = np.minimum(death, censored), (death <= censored).astype(np.int8)
    frame = pd.DataFrame(random.normal(size=(count, genes)), index=ids).add_prefix("g")
    moments = np.concatenate([bags.mean(1), bags.std(1)], axis=1).astype(np.float64)
    vectors = torch.from_numpy(frame.to_numpy(dtype=np.float32))
    rows = zip(table.to_dict("records"), torch.from_numpy(bags), vectors, strict=True)
    people = {
        row["patient_id"]: PatientBag(
            row["patient_id"], bag, vector, row["time_months"], bool(row["event"]), int(row["subtype"] == "ILC"),
            {"age": row["age"]},
        )
        for row, bag, vector in rows
    }  # fmt: skip
    return Patients(Inputs(table, frame, moments), Dataset(people, tuple(frame.columns), ("IDC", "ILC")))


def standard_errors(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, its standard error, and its distance from 0.5 in standard errors."""
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
    return mean, error, (mean - 0.5) / error


def report(args: argparse.Namespace, patients: int, c_by_model: dict[str, list[float]]) -> int:
    print(f"{args.permutations} permutations of {patients} patients, two folds each{', PEEKING' * args.peek}")
    away = []
    for name, values in c_by_model.items():
        mean, error, distance = standard_errors(values)
        away.append(distance)
        print(f"  {name:12} mean C {mean:.4f}, standard error {error:.4f}: {distance:+.2f} of them from 0.5")
    return int(max(away) <= 2 if args.peek else max(map(abs, away)) > 2)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--permutations", type=int, default=50)
    parser.add_argument("--patients", type=int, default=300)
    parser.add_argument("--models", nargs="+", default=["mcti", "linear_all"], choices=model_zoo.NAMES, metavar="NAME")
    parser.add_argument("--out", type=Path, default=tcga_study.ROOT / "study" / "null")
    parser.add_argument("--peek", action="store_true", help="learn from the test part, too: a leak")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
