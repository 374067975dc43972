"""Claim: on real cohorts MCTI, or its ensemble with a Cox model, ranks patients better than the all-linear Cox model.

Run    python -m benchmarks.tcga_study [--data FOLDER] [--workers 2]     98 minutes of two cores
Reads  FOLDER (default ../shared/data/tcga): NAME_clinical.csv, NAME_expression.parquet, NAME_slides.csv, bags/NAME.zip
       for each cohort NAME
Writes study/ (out-of-fold predictions by cohort, scheme, model, seed and fold; protocol.json), docs/results.md,
       docs/results.json and docs/figures/results_*.svg
The protocol: five site-grouped and five random folds, the same for every model; networks by one training loop with one
setting and one fixed number of epochs, none of them tuned; three seeds; baselines with their penalties chosen inside
the training part. Primary contrasts, fixed before a test fold is read: mcti and mcti+cox minus linear_all in C on the
site-grouped folds, paired bootstrap over patients, Holm over both and all cohorts. An interrupted run resumes; a
`study/` of another protocol or of other data is refused. After `--minutes` no new work starts; the tables then contain
the finished part and list what is missing. `--report` only writes the tables and figures again.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks import model_zoo, study_data, study_report
from benchmarks.model_zoo import Patients, RowSplit
from mcti.errors import MctiError
from mcti.evaluation import baselines
from mcti.evaluation.predictions import Predictions
from mcti.model.trained import TrainedModel
from mcti.params import TrainParams
from mcti.storage import replacing

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "tcga"
HORIZONS = (12.0, 24.0, 36.0, 48.0, 60.0)
SETTINGS = {"device": "cpu", "threads": 1}
"""Of every network; all else is the default of `train`. How that came about: docs/results.md."""
PERMUTED = ("permuted linear_all", "permuted mcti")
FIRST = ("mcti", model_zoo.ENSEMBLE, "snn", "mean_pool", "abmil", "late_fusion", "mcat", "motcat", "transmil")
MODELS = (*baselines.REGISTRY, *FIRST, *PERMUTED, *(n for n in model_zoo.NETWORKS if n not in FIRST))
SEEDLESS = tuple(name for name in baselines.REGISTRY if name not in ("forest", "boosting"))


@dataclass(frozen=True)
class Unit:
    """One model on one training part: what is done or not done."""

    cohort: str
    scheme: str
    model: str
    seed: int
    fold: int

    def file(self, out: Path) -> Path:
        """Where its predictions lie."""
        return out / self.cohort / self.scheme / self.model.replace(" ", "_") / f"seed_{self.seed}" / f"{self.fold}.csv"


def main() -> int:
    args = _arguments()
    if not args.data.is_dir():
        print(f"the cohorts are not at {args.data}: nothing to measure")
        return 0
    try:
        cohorts = {name: _cohort(args, name) for name in args.cohorts or study_data.names(args.data)}
        for cohort in cohorts.values():
            freeze(cohort, args)
        started = time.monotonic()
        if not args.report:
            work(args, list(units(cohorts.values(), args)), started)
        study_report.write(cohorts, args, units(cohorts.values(), args))
    except MctiError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def units(cohorts: Iterable[study_data.Cohort], args: argparse.Namespace) -> Iterator[Unit]:
    """All work in order of importance: seed by seed, model by model."""
    many = list(cohorts)
    for seed in range(args.seeds):
        for model in args.models:
            if seed and model in (*SEEDLESS, *PERMUTED):
                continue
            for scheme in args.schemes:
                for cohort in many:
                    yield from (Unit(cohort.name, scheme, model, seed, p.fold) for p in cohort.folds[scheme])


def freeze(cohort: study_data.Cohort, args: argparse.Namespace) -> None:
    """Record folds, settings and contrasts before the first fit; refuse to resume under another protocol."""
    ids = cohort.table["patient_id"].to_numpy()
    protocol = {
        "data": cohort.digest,
        "settings": settings(cohort, 0).model_dump(mode="json"),
        "metric": "Harrell's C within folds, mean over seeds of risks standardised within fold",
        "primary": ["mcti - linear_all", "mcti+cox - linear_all"],
        "folds": {s: {str(p.fold): sorted(ids[p.test]) for p in parts} for s, parts in cohort.folds.items()},
    }
    text = json.dumps(protocol, indent=1, sort_keys=True)
    file = args.out / cohort.name / "protocol.json"
    if file.exists() and file.read_text(encoding="utf-8") != text:
        raise MctiError("another protocol or other data", str(file), "set another --out, or remove the folder")
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as draft:
            draft.write_text(text, encoding="utf-8")
    print(f"{cohort.name}: protocol {hashlib.md5(text.encode()).hexdigest()}", file=sys.stderr)


def settings(cohort: study_data.Cohort, seed: int) -> TrainParams:
    """The one setting of all networks."""
    architecture = {"covariates": list(cohort.covariates)}
    return TrainParams.model_validate(
        {**SETTINGS, "seed": seed, "architecture": architecture, "horizons_months": HORIZONS}
    )


def work(args: argparse.Namespace, planned: list[Unit], started: float) -> None:
    """Run the open units, `--workers` at a time, until all are done or the time limit is reached."""
    open_units = [unit for unit in planned if not unit.file(args.out).exists()]
    done, limit = len(planned) - len(open_units), args.minutes * 60 or float("inf")
    if args.workers == 1:
        for unit in open_units:
            if time.monotonic() - started > limit:
                return
            _do(args, unit)
            done += 1
            _say(done, len(planned), unit, started)
        return
    with ProcessPoolExecutor(args.workers, multiprocessing.get_context("spawn")) as pool:
        running: dict[Future[None], Unit] = {}
        while open_units or running:
            while open_units and len(running) < args.workers and time.monotonic() - started <= limit:
                unit = open_units.pop(0)
                running[pool.submit(_do, args, unit)] = unit
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                future.result()
                done += 1
                _say(done, len(planned), running.pop(future), started)


def _say(done: int, of: int, unit: Unit, started: float) -> None:
    minutes = (time.monotonic() - started) / 60
    print(f"{minutes:6.1f} min  {done}/{of}  {' '.join(map(str, vars(unit).values()))}", file=sys.stderr, flush=True)


@cache
def _read(folder: Path, name: str, folds: int, repeats: int, most: int | None) -> study_data.Cohort:
    return study_data.read(folder, name, folds, repeats, most)


def _cohort(args: argparse.Namespace, name: str) -> study_data.Cohort:
    return _read(args.data, name, args.folds, args.repeats, args.patients)


def _do(args: argparse.Namespace, unit: Unit) -> None:
    """Fit, predict, write; the file is there whole or not at all."""
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    cohort = _cohort(args, unit.cohort)
    part = next(p for p in cohort.folds[unit.scheme] if p.fold == unit.fold)
    with threadpool_limits(1):
        table = predict(cohort, part, unit)
    file = unit.file(args.out)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as draft:
        draft.write_text(table.to_csv(index=False, lineterminator="\n"), encoding="utf-8")


def predict(cohort: study_data.Cohort, split: RowSplit, unit: Unit) -> pd.DataFrame:
    """patient_id, risk, S_<months>; of `mcti` also its risks under the negative controls and the subtype."""
    patients, params = cohort.patients, settings(cohort, unit.seed)
    name = unit.model.removeprefix("permuted ")
    if name != unit.model:
        patients = permuted(patients, split, unit.seed)
    more: dict[str, np.ndarray] = {}
    if name == "mcti":
        model = model_zoo.fit_network(name, patients, split, params)
        predictions = model_zoo.network_forecast(model, patients, HORIZONS)(split.test)
        if name == unit.model and unit.seed == 0:
            more = controls(model, patients, split) | subtypes(model, patients, split)
    else:
        predictions = model_zoo.fit(name, patients, split, params)(split.test)
    return _table(cohort, split, predictions, more)


def _table(
    cohort: study_data.Cohort, split: RowSplit, predictions: Predictions, more: dict[str, np.ndarray]
) -> pd.DataFrame:
    columns = {"patient_id": cohort.table["patient_id"].to_numpy()[split.test], "risk": predictions.risk}
    columns |= {f"S_{months:g}": predictions.survival[:, i] for i, months in enumerate(HORIZONS)}
    return pd.DataFrame(columns | more)


def permuted(patients: Patients, split: RowSplit, seed: int) -> Patients:
    """The training patients with permuted follow-up: there is nothing to learn from them."""
    table, bags = patients.inputs.patients.copy(), dict(patients.data.bags)
    drawn = np.random.default_rng([23, seed, split.fold]).permutation(split.train)
    for column in ("time_months", "event"):
        values = table[column].to_numpy().copy()
        values[split.train] = values[drawn]
        table[column] = values
    for row in split.train:
        name = table["patient_id"].iloc[row]
        time_months, event = float(table["time_months"].iloc[row]), bool(table["event"].iloc[row])
        bags[name] = replace(bags[name], time_months=time_months, event=event)
    return Patients(replace(patients.inputs, patients=table), replace(patients.data, bags=bags))


def controls(model: TrainedModel, patients: Patients, split: RowSplit) -> dict[str, np.ndarray]:
    """Risks when a modality is replaced at inference: by the training mean, by zeros, by another test patient's."""
    tested = patients.bags(split.test)
    drawn = np.random.default_rng([29, split.fold]).permutation(len(tested))
    mean = model.fitted.features.mean[None]
    changed = {
        "slides_mean": [replace(bag, patches=mean) for bag in tested],
        "slides_zero": [
            bag if bag.patches is None else replace(bag, patches=torch.zeros_like(bag.patches)) for bag in tested
        ],
        "slides_shuffled": [replace(bag, patches=tested[k].patches) for bag, k in zip(tested, drawn, strict=True)],
        "genes_mean": [replace(bag, genes=model.fitted.genes.mean) for bag in tested],
        "genes_zero": [bag if bag.genes is None else replace(bag, genes=torch.zeros_like(bag.genes)) for bag in tested],
        "genes_shuffled": [replace(bag, genes=tested[k].genes) for bag, k in zip(tested, drawn, strict=True)],
    }
    return {f"risk {name}": model_zoo.predict_bags(model, bags, HORIZONS).risk for name, bags in changed.items()}


def subtypes(model: TrainedModel, patients: Patients, split: RowSplit) -> dict[str, np.ndarray]:
    """P of each subtype."""
    with torch.inference_mode():
        rows = [
            model.net(**model.inputs(bag.patches, bag.genes, bag.covariates)).subtype_logits.softmax(1)[0]
            for bag in patients.bags(split.test)
        ]
    table = torch.stack(rows).numpy()
    return {f"P {name}": table[:, i] for i, name in enumerate(patients.data.classes)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the cohorts")
    parser.add_argument("--cohorts", nargs="+", help="names; default: all of the folder")
    parser.add_argument("--out", type=Path, default=ROOT / "study", help="predictions; a run resumes from them")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where results.md and its figures go")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS, metavar="NAME")
    parser.add_argument("--schemes", nargs="+", default=list(study_data.SCHEMES), choices=study_data.SCHEMES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=1, help="number of assignments of the cohort to folds")
    parser.add_argument("--bootstrap", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, default=0, help="start no new work after these minutes; 0: no limit")
    parser.add_argument("--patients", type=int, help="number of patients of each cohort, for a trial of the script")
    parser.add_argument("--report", action="store_true", help="no fitting: tables and figures of the finished part")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
