"""Cohort, features and folds to one trained model a fold."""

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mcti import storage
from mcti.cohort.folds import read_folds
from mcti.dataset.bags import Dataset
from mcti.dataset.loading import load_dataset
from mcti.dataset.splits import REFIT, FoldSplit
from mcti.params import TrainParams
from mcti.progress import Progress
from mcti.registry.pipeline_run import tracked
from mcti.steps.result import StepResult
from mcti.steps.search.best_settings import Best
from mcti.steps.task_log import logged
from mcti.storage import Location
from mcti.training import devices
from mcti.training.distributed import ranks
from mcti.training.fold_files import FoldSummary
from mcti.training.folds import train_fold
from mcti.training.worker_pool import Channel, Pool


class TrainResult(StepResult):
    """What was trained: one entry a fold in each tuple, in the order of `folds`."""

    folds: tuple[int, ...]
    train_patients: tuple[int, ...]
    test_patients: tuple[int, ...]
    loss: tuple[float, ...]
    parameters: int
    epochs: int
    preset: str


@dataclass(frozen=True)
class Job:
    """One fold, as plain values that travel to a worker."""

    cohort: str
    features: str | None
    part: FoldSplit
    params: TrainParams
    out: Path
    trace: Path | None = None
    search: Mapping[str, Any] | None = None


@logged
@tracked
def train(
    cohort: Location,
    features: Location | None,
    folds: Location,
    params: TrainParams,
    out: Path,
    *,
    best: Location | None = None,
    fold: int | None = None,
    profile: Path | None = None,
    refit: bool = False,
    progress: Progress | None = None,
) -> TrainResult:
    """Train one model a fold; fold by fold what is finished is kept, and what was interrupted goes on.

    refit: instead one model on all patients of the split, out/refit, with the settings of the folds. Nobody is left
    to test it on: its evidence is that of the folds (docs/registry.md).

    Reads   cohort, features/<slide_id>.h5 (None: genes alone), folds.csv, best.yaml of `search` (settings that won)
    Writes  out/fold_<k>/{weights.safetensors,model.json,predictions.csv,history.csv}, out/result.json; regimes.csv in a
            fold whose model can do without a modality, uncalibrated.csv in one with recalibrated curves; folds that
            the split no longer has are removed. `fold`: that one alone, the others stay as they are. `profile`: a
            trace of a few steps of the first fold trained
    Raises  DataError for a fold that cannot be learned from, a loss that is no number, checkpoints of another run
            UsageError for settings in `best` that training does not know, or a fold that does not exist
            Paused after SIGTERM: saved, and the same command goes on
    """
    devices.need(params.device)
    chosen = None if best is None else Best.read(best)
    split = read_folds(folds)
    numbers = split.numbers if fold is None else [fold]
    parts = [FoldSplit(k, tuple(split.train_patients(k)), tuple(split.test_patients(k))) for k in numbers]
    if refit:
        parts = [FoldSplit(REFIT, tuple(sorted({*parts[0].train, *parts[0].test})), ())]
    slides = None if features is None else str(features)
    told = [
        (params, None) if chosen is None else (chosen.settings(params, p.fold), chosen.record(p.fold)) for p in parts
    ]
    settings = told[0][0]
    jobs = [
        Job(str(cohort), slides, part, own, Path(out), profile if k == 0 else None, record)
        for k, (part, (own, record)) in enumerate(zip(parts, told, strict=True))
    ]
    _data.cache_clear()  # a folder may have been written anew since the last call in this process
    place = ranks()
    # Under torchrun the processes share each fold; without it, each worker has folds of its own.
    with Pool(_one, settings.workers if place.world == 1 else 1, len(jobs)) as pool:
        summaries = pool.map(jobs, progress)
    result = _result(summaries, settings)
    if place.first:
        _tidy(Path(out), keep=None if fold is not None or refit else numbers)
        result.save(Path(out), "refit.json" if refit else "result.json")
    place.wait()
    return result


def _one(job: Job, channel: Channel) -> FoldSummary:
    data = _data(job.cohort, job.features, job.params.modalities)
    return train_fold(
        data,
        job.part,
        job.params,
        job.out,
        stop=channel.stop,
        progress=channel.progress,
        trace=job.trace,
        search=job.search,
    )


@lru_cache(maxsize=1)
def _data(cohort: str, features: str | None, modalities: str) -> Dataset:
    """The cohort, read once a process."""
    return load_dataset(cohort, None if modalities == "genes" else features).restricted_to(modalities)


def _tidy(out: Path, keep: list[int] | None) -> None:
    """Take away the work folder, and the folds that the split no longer has.

    keep: the folds of a run of all; None: one fold was trained, and the checkpoints of the others stay.
    """
    with storage.translating_os_errors(out):
        if keep is None:
            with contextlib.suppress(OSError):  # not there, or not empty
                (out / ".work").rmdir()
            return
        shutil.rmtree(out / ".work", ignore_errors=True)
        names = {f"fold_{number}" for number in keep}
        for folder in out.glob("fold_*"):
            if folder.name not in names:
                shutil.rmtree(folder)


def _result(summaries: list[FoldSummary], params: TrainParams) -> TrainResult:
    return TrainResult(
        folds=tuple(summary.fold for summary in summaries),
        train_patients=tuple(summary.train_patients for summary in summaries),
        test_patients=tuple(summary.test_patients for summary in summaries),
        loss=tuple(summary.loss for summary in summaries),
        parameters=summaries[0].parameters,
        epochs=params.epochs,
        preset=params.preset,
    )
