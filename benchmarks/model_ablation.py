"""Does what reaches beyond the paper help? `compact` with each flag on against off: the paired difference in C.

The last three switch off what `compact` has by default: the linear path past the U-Net, axes of its inputs, products.

Reads  ../shared/data/tcga (TCGA-BRCA: slide features, expression, overall survival, subtype, age and sex)
Prints a line for each flag as soon as it is known: C within folds with the flag, its difference to `compact` as it is,
       the bootstrap interval of the difference over patients, and the time. Same patients, folds, seeds and budget;
       no setting was tuned for either side. A flag stays off unless the interval of a gain excludes 0.
Run    python -m benchmarks.model_ablation [--patients 240] [--folds 3] [--epochs 5] [--seeds 1] [--flags NAME ...]
Trap   A few hundred patients hold a few dozen events: most intervals are wider than any gain to be hoped for.
"""

import argparse
import io
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mcti.cohort.folds import assign_stratified
from mcti.dataset.bags import Dataset, PatientBag
from mcti.evaluation.comparison import Draws, interval, paired
from mcti.evaluation.metrics import c_index
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.statistics import PairMean
from mcti.params import TrainParams
from mcti.training import fold_files
from mcti.training import folds as folding
from mcti.training.loop import train

DATA = Path(__file__).parents[2] / "shared" / "data" / "tcga"
FLAGS: dict[str, dict[str, Any]] = {
    "low_rank": {"architecture": {"solver": "low_rank", "rank": 8, "iterations": 10}},
    "continuous": {"architecture": {"head": "continuous"}},
    "covariates": {"architecture": {"covariates": ["age", "is_female"]}},
    "hard_negatives": {"architecture": {"hard_negatives": 16}},
    "missing": {"architecture": {"missing": True}, "modality_dropout": 0.2},
    "critical_share": {"architecture": {"critical_share": 0.9}},
    "plan_gradient": {"architecture": {"solver": "sinkhorn", "entropy": 0.1, "plan_gradient": True}},
    "no_linear_skip": {"architecture": {"linear_skip": False}},
    "no_axes": {"architecture": {"gene_axes": 0, "feature_axes": 0}},
    "no_bilinear": {"architecture": {"bilinear_rank": 0}},
}
Parts = Mapping[int, tuple[list[str], list[str]]]


def read(patients: int) -> tuple[Dataset, pd.DataFrame]:
    """The first `patients` of a fixed shuffle of those with slides and genes, as bags, and their table."""
    clinical = pd.read_csv(DATA / "brca_clinical.csv").sample(frac=1, random_state=0)
    genes = pd.read_parquet(DATA / "brca_expression.parquet").set_index("patient_id")
    slides = pd.read_csv(DATA / "brca_slides.csv").groupby("patient_id").slide_id.apply(sorted)
    bags: dict[str, PatientBag] = {}
    with zipfile.ZipFile(DATA / "bags" / "brca.zip") as archive:
        known = set(archive.namelist())
        clinical = clinical[clinical.patient_id.isin(genes.index) & clinical.patient_id.isin(slides.index)]
        classes = tuple(sorted(clinical.subtype.unique()))
        for row in clinical.to_dict("records"):
            names = [slide.removesuffix(".svs") + ".pt" for slide in slides[row["patient_id"]]]
            names = [name for name in names if name in known]
            if len(bags) < patients and names:
                rows = [torch.load(io.BytesIO(archive.read(name)), weights_only=True).float() for name in names]
                bags[row["patient_id"]] = _bag(row, torch.cat(rows), genes, classes)
    table = clinical[clinical.patient_id.isin(bags)].sort_values("patient_id").reset_index(drop=True)
    return Dataset(bags, tuple(map(str, genes.columns)), classes), table


def _bag(row: dict[Any, Any], patches: torch.Tensor, genes: pd.DataFrame, classes: tuple[str, ...]) -> PatientBag:
    patient = row["patient_id"]
    return PatientBag(
        patient_id=patient,
        patches=patches,
        genes=torch.tensor(genes.loc[patient].to_numpy(np.float32)),
        time_months=float(row["time_months"]),
        event=bool(row["event"]),
        subtype=classes.index(row["subtype"]),
        covariates={name: None if pd.isna(row[name]) else float(row[name]) for name in ("age", "is_female")},
    )


def assign_parts(table: pd.DataFrame, count: int) -> Parts:
    """{fold: (training patients, test patients)}, stratified by event and subtype."""
    fold_numbers = assign_stratified(table, count, [0])
    ids = table.patient_id
    return {fold: (list(ids[fold_numbers != fold]), list(ids[fold_numbers == fold])) for fold in range(count)}


def risks(data: Dataset, parts: Parts, tested: Outcomes, params: TrainParams) -> np.ndarray:
    """Out-of-fold risks of one seed, in the order of `tested`."""
    predicted = np.empty(len(tested.patient_ids))
    for fold, part in tested.parts():
        name = ("fold", fold.number)
        task = folding.prepare(data, data.select(parts[fold.number][0], "fold"), params, name, f"fold {fold.number}")
        chosen = data.select([tested.patient_ids[row] for row in fold.patients], "fold")
        rows = fold_files.predict(train(task).model, chosen, [12.0])
        predicted[part] = [row["risk"] for row in rows]
    return predicted


SETTINGS = {"batch_patients": 16, "learning_rate": 1e-3, "weight_decay": 1e-2, "cox_weight": 0.0, "threads": 1}
"""Of the network with and without the flag."""


def score(data: Dataset, parts: Parts, tested: Outcomes, change: dict[str, Any], args: argparse.Namespace) -> PairMean:
    """C within folds of the risks, each standardised within its fold and then averaged over the seeds."""
    total = np.zeros(len(tested.patient_ids))
    for seed in range(args.seeds):
        params = TrainParams.model_validate({**SETTINGS, "epochs": args.epochs, "seed": seed, **change})
        predicted = risks(data, parts, tested, params)
        for _, part in tested.parts():
            total[part] += (predicted[part] - predicted[part].mean()) / max(float(predicted[part].std()), 1e-12)
    return c_index(tested, total)


def main() -> None:
    """Print the table, a line at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("patients", 240), ("folds", 3), ("epochs", 5), ("seeds", 1), ("bootstrap", 1000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--flags", nargs="+", default=list(FLAGS), choices=FLAGS, metavar="NAME")
    args = parser.parse_args()
    data, table = read(args.patients)
    parts = assign_parts(table, args.folds)
    tested = Outcomes.from_folds(table, parts)
    draws = Draws.sample(tested.event, args.bootstrap, seed=0).stratified
    start = time.perf_counter()
    base = score(data, parts, tested, {}, args)
    unchanged = interval(base, draws, 0.95)
    print(f"{len(table)} patients, {int(table.event.sum())} events, {args.folds} folds, {args.epochs} epochs")
    print("| flag | C | difference [95 % interval] | seconds |\n|---|---|---|---|")
    seconds = time.perf_counter() - start
    print(f"| none | {unchanged.value:.3f} [{unchanged.low:.3f}, {unchanged.high:.3f}] | | {seconds:.0f} |", flush=True)
    for flag in args.flags:
        start = time.perf_counter()
        ours = score(data, parts, tested, FLAGS[flag], args)
        difference, value = paired(ours, base, draws, 0.95).interval, interval(ours, draws, 0.95).value
        seconds, ends = time.perf_counter() - start, f"[{difference.low:+.3f}, {difference.high:+.3f}]"
        print(f"| `{flag}` | {value:.3f} | {difference.value:+.3f} {ends} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
