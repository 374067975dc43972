"""Claim: on real cohorts `mcti train`, with and without other cohorts to learn from, ranks patients better than the
all-linear Cox model of the cohort.

Run    python -m benchmarks.tcga_study [--data FOLDER] [--workers 2]
Reads  FOLDER (default ../shared/data/tcga): NAME_clinical.csv, NAME_expression.parquet, NAME_slides.csv, bags/NAME.zip
       for each cohort NAME
Writes study/ (out-of-fold predictions by cohort, scheme, model, seed and fold; protocol.json), docs/results.md,
       docs/results.json and docs/figures/results_*.svg
The protocol: five site-grouped folds (fewer in a cohort of fewer sites) and five random folds, equal for every model;
networks by one training loop with one setting and one fixed number of epochs, none of them tuned; three seeds;
baselines with their penalties chosen inside the training part. Models with transfer also learn from the other cohorts
(`--sources`), of which no patient is tested. The contrasts (CONTRASTS) are fixed before a test fold is read: paired
bootstrap over patients, Holm over contrasts and cohorts, pooled over cohorts by a random-effects model. Permuted
outcomes and ablations have site-grouped folds alone; trees, as the linear models, have one seed. An interrupted run
resumes; a `study/` of another protocol or of other data is refused. After `--minutes` no new work starts; the tables
then contain the finished part and list what is missing. `--report` only writes the tables and figures again.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from benchmarks import model_zoo, study_data, study_pool, study_report
from benchmarks.model_zoo import Patients, RowSplit
from mcti.dataset.bags import Dataset
from mcti.errors import MctiError
from mcti.evaluation import baselines
from mcti.evaluation.predictions import Predictions
from mcti.model.trained import TrainedModel
from mcti.params import TrainParams
from mcti.params.variants import ABLATIONS, COMPARATORS
from mcti.storage import replacing

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "tcga"
HORIZONS = (12.0, 24.0, 36.0, 48.0, 60.0)
TREES = ("forest", "boosting")
SETTINGS = {"device": "cpu", "threads": 1}
"""Of every network; all else is the default of `train`. How that came about: docs/results.md."""
PERMUTED = ("permuted linear_all", "permuted mcti")
FIRST = (
    *(name for name in baselines.REGISTRY if name not in TREES),
    *model_zoo.COX_WEIGHTS,
    *model_zoo.TRANSFERRED,
    *COMPARATORS,
)
MODELS = (*FIRST, *TREES, *PERMUTED, *ABLATIONS)
ONE_SEED = (*baselines.REGISTRY, *PERMUTED)
ONE_SCHEME = (*PERMUTED, *ABLATIONS)
"""Controls and ablations, on the primary folds alone."""
NEEDS_SUBTYPES = ("subtype_only", "no_subtype_task")


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
    """All work in order of importance: seed by seed, scheme by scheme, model by model."""
    many = list(cohorts)
    for seed in range(args.seeds):
        for scheme in args.schemes:
            for model in args.models:
                if (seed and model in ONE_SEED) or (scheme != study_data.PRIMARY and model in ONE_SCHEME):
                    continue
                for cohort in many:
                    if measurable(model, cohort, args):
                        yield from (Unit(cohort.name, scheme, model, seed, p.fold) for p in cohort.folds[scheme])


def measurable(model: str, cohort: study_data.Cohort, args: argparse.Namespace) -> bool:
    """Whether the model exists for the cohort: a subtype needs two classes, transfer another cohort."""
    if model.endswith(model_zoo.TRANSFER):
        return bool(source_names(args, cohort.name))
    return not (cohort.one_class and model in NEEDS_SUBTYPES)


def source_names(args: argparse.Namespace, target: str) -> list[str]:
    """The cohorts that a target learns from: `--sources`, or all of the folder, without the target."""
    return [name for name in args.sources or study_data.names(args.source_data or args.data) if name != target]


def jobs(planned: Iterable[Unit]) -> list[tuple[Unit, ...]]:
    """Units that one worker does together, in the order of the first of each.

    Those of one training run (`model_zoo.training_run`); with fine-tuning also the folds of one seed, which start from
    the same pretrained network.
    """
    params = TrainParams.model_validate(SETTINGS)
    together: dict[tuple[str, str, str, int, int], list[Unit]] = {}
    for unit in planned:
        run = model_zoo.training_run(unit.model, params)
        fold = -1 if run.endswith(model_zoo.TRANSFER) else unit.fold
        key = (unit.cohort, unit.scheme, run, unit.seed, fold)
        together.setdefault(key, []).append(unit)
    return [tuple(group) for group in together.values()]


def freeze(cohort: study_data.Cohort, args: argparse.Namespace) -> None:
    """Record folds, settings, sources and contrasts before the first fit; refuse to resume under another protocol."""
    ids = cohort.table["patient_id"].to_numpy()
    protocol = {
        "data": cohort.digest,
        "sources": {name: _source(args, name).digest for name in source_names(args, cohort.name)},
        "settings": settings(cohort, 0).model_dump(mode="json"),
        "metric": "Harrell's C within folds, mean over seeds of risks standardised within fold",
        "contrasts": [f"{contrast.model} - {contrast.comparator}" for contrast in study_pool.CONTRASTS],
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
    """Run the open units, `--workers` training runs at a time, until all are done or the time limit is reached."""
    waiting = jobs(unit for unit in planned if not unit.file(args.out).exists())
    done, limit = len(planned) - sum(map(len, waiting)), args.minutes * 60 or float("inf")
    if args.workers == 1:
        for job in waiting:
            if time.monotonic() - started > limit:
                return
            _do(args, job)
            done += len(job)
            _say(done, len(planned), job, started)
        return
    with ProcessPoolExecutor(args.workers, multiprocessing.get_context("spawn")) as pool:
        running: dict[Future[None], tuple[Unit, ...]] = {}
        while waiting or running:
            while waiting and len(running) < args.workers and time.monotonic() - started <= limit:
                job = waiting.pop(0)
                running[pool.submit(_do, args, job)] = job
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                future.result()
                job = running.pop(future)
                done += len(job)
                _say(done, len(planned), job, started)


def _say(done: int, of: int, job: tuple[Unit, ...], started: float) -> None:
    minutes, first = (time.monotonic() - started) / 60, job[0]
    names, folds = (dict.fromkeys(getattr(unit, field) for unit in job) for field in ("model", "fold"))
    where = f"{first.cohort} {first.scheme} seed {first.seed} fold {' '.join(map(str, folds))}"
    print(f"{minutes:6.1f} min  {done}/{of}  {where}: {', '.join(names)}", file=sys.stderr, flush=True)


@cache
def _read(folder: Path, name: str, folds: int, repeats: int, most: int | None) -> study_data.Cohort:
    return study_data.read(folder, name, folds, repeats, most)


@cache
def _aligned(target: study_data.Cohort, others: tuple[study_data.Cohort, ...]) -> tuple[Dataset, ...]:
    return study_data.sources(target, others)


def _cohort(args: argparse.Namespace, name: str) -> study_data.Cohort:
    return _read(args.data, name, args.folds, args.repeats, args.patients)


def _source(args: argparse.Namespace, name: str) -> study_data.Cohort:
    return _read(args.source_data or args.data, name, args.folds, args.repeats, args.patients)


def _sources(args: argparse.Namespace, target: study_data.Cohort) -> tuple[Dataset, ...]:
    return _aligned(target, tuple(_source(args, name) for name in source_names(args, target.name)))


def _do(args: argparse.Namespace, job: tuple[Unit, ...]) -> None:
    """Fit, predict, write, fold by fold; a file is there whole or not at all."""
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    first, cohort = job[0], _cohort(args, job[0].cohort)
    others = _sources(args, cohort) if any(unit.model.endswith(model_zoo.TRANSFER) for unit in job) else ()
    for part in cohort.folds[first.scheme]:
        if units_of_fold := tuple(unit for unit in job if unit.fold == part.fold):
            with threadpool_limits(1):
                tables = predict(cohort, part, units_of_fold, others)
            for unit, table in tables.items():
                _write(unit.file(args.out), table)


def _write(file: Path, table: pd.DataFrame) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as draft:
        draft.write_text(table.to_csv(index=False, lineterminator="\n"), encoding="utf-8")


def predict(
    cohort: study_data.Cohort, split: RowSplit, job: tuple[Unit, ...], sources: Sequence[Dataset] = ()
) -> dict[Unit, pd.DataFrame]:
    """The tables of the units of one training run: patient_id, risk, S_<months>.

    That of `mcti` with seed 0 also has the risks under the negative controls and the subtype.
    """
    first, params = job[0], settings(cohort, job[0].seed)
    if first.model in PERMUTED:
        patients = permuted(cohort.patients, split, first.seed)
        forecast = model_zoo.fit(first.model.removeprefix("permuted "), patients, split, params)
        return {first: _table(cohort, split, forecast(split.test), {})}
    if first.model not in model_zoo.NETWORKS:
        forecast = model_zoo.fit(first.model, cohort.patients, split, params)
        return {first: _table(cohort, split, forecast(split.test), {})}
    models = model_zoo.fit_networks([unit.model for unit in job], cohort.patients, split, params, sources)
    return {unit: _network_table(cohort, split, unit, models[unit.model]) for unit in job}


def _network_table(cohort: study_data.Cohort, split: RowSplit, unit: Unit, model: TrainedModel) -> pd.DataFrame:
    predictions = model_zoo.network_forecast(model, cohort.patients, HORIZONS)(split.test)
    more: dict[str, np.ndarray] = {}
    if unit.model == "mcti" and unit.seed == 0:
        more = controls(model, cohort.patients, split)
        if not cohort.one_class and predictions.subtypes is not None:
            more |= {f"P {name}": predictions.subtypes[name].to_numpy() for name in predictions.subtypes}
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


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the cohorts")
    parser.add_argument("--cohorts", nargs="+", help="names; default: all of the folder")
    parser.add_argument("--sources", nargs="+", help="cohorts to learn from, without the target; default: all")
    parser.add_argument("--source-data", type=Path, help="folder of the sources; default: that of the cohorts")
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
