"""train: one model per fold, from cohort, features and folds."""

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcti import storage
from mcti.dataset.splits import REFIT, FoldSplit
from mcti.params import TrainParams
from mcti.progress import Progress
from mcti.registry import training_runs
from mcti.registry.pipeline_run import tracked
from mcti.steps.result import StepResult
from mcti.steps.search.best_settings import BestSettings
from mcti.steps.task_log import logged
from mcti.storage import Location

if TYPE_CHECKING:  # they import torch and pandas, which a wrong option or the first line of the log does not need
    from mcti.dataset.bags import Dataset
    from mcti.steps.transfer import TransferFiles
    from mcti.training.fold_files import FoldSummary
    from mcti.training.worker_pool import Channel


class TrainResult(StepResult):
    """The trained folds: one entry per fold in each tuple, in the order of `folds`."""

    folds: tuple[int, ...]
    train_patients: tuple[int, ...]
    test_patients: tuple[int, ...]
    loss: tuple[float, ...]
    parameters: int
    epochs: int
    preset: str


@dataclass(frozen=True)
class FoldJob:
    """One fold, as plain values that are sent to a worker."""

    cohort: str
    features: str | None
    split: FoldSplit
    params: TrainParams
    out: Path
    trace: Path | None = None
    search: Mapping[str, Any] | None = None
    transfer: "TransferFiles | None" = None
    by_cohort: bool = False
    store: Path | None = None


@logged
@tracked
def train(  # noqa: PLR0913  (a step: inputs, params, out, options)
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
    by_cohort: bool = False,
    progress: Progress | None = None,
) -> TrainResult:
    """Train one model per fold; a finished fold is kept, and an interrupted one resumes.

    Reads   cohort, features/<slide_id>.h5 (None: genes alone), folds.csv, best.yaml of `search` (the winning settings)
    Writes  out/fold_<k>/{weights.safetensors,model.json,predictions.csv,history.csv}, out/result.json; regimes.csv in a
            fold whose model accepts an absent modality, uncalibrated.csv in one with recalibrated curves; folds that
            the split no longer has are removed
    Raises  DataError when a training part has too few events, a covariate is no numeric column, the loss is not finite,
            or checkpoints belong to another run
            UsageError when `best` has a setting that training does not have, or the fold does not exist
            OperationalError when the device is not available or has too little memory
            Paused after SIGTERM: the state is saved, and the same command resumes

    fold     train this fold alone; the other folds do not change
    refit    train one model on all patients of the split instead, out/refit, with the settings of the folds; there are
             no test patients, so its evidence is that of the folds (docs/registry.md)
    by_cohort  train within each cohort of the column `cohort` (the step `pretrain`); the settings have no sources
    profile  file for the trace of a few steps of the first fold
    """
    from mcti.cohort.folds import read_folds
    from mcti.dataset.loading import check_covariates
    from mcti.steps.transfer import transfer_files
    from mcti.training import devices
    from mcti.training.distributed import ranks
    from mcti.training.shared_bags import shared_bags
    from mcti.training.worker_pool import Pool

    devices.require_device(params.device)
    split = read_folds(folds)
    numbers = split.numbers if fold is None else [fold]
    splits = [FoldSplit(k, tuple(split.train_patients(k)), tuple(split.test_patients(k))) for k in numbers]
    if refit:
        splits = [FoldSplit(REFIT, tuple(sorted({*splits[0].train, *splits[0].test})), ())]
    winning = None if best is None else BestSettings.read(best)
    jobs = [_job(cohort, features, one, params, winning, Path(out)) for one in splits]
    check_covariates(cohort, jobs[0].params.architecture.covariates or ())
    jobs[0] = replace(jobs[0], trace=profile)
    _load.cache_clear()  # the folder may have changed since the last call in this process
    process = ranks()
    # Under torchrun the processes share each fold; without it, each worker has folds of its own.
    workers = jobs[0].params.workers if process.world == 1 else 1
    read = None if jobs[0].params.modalities == "genes" else features
    with (
        transfer_files(cohort, features, split, jobs[0].params) as transfer,
        shared_bags(cohort, read, Path(out)) as store,
        Pool(_train_job, workers, len(jobs)) as pool,
    ):
        jobs = [replace(job, transfer=transfer, by_cohort=by_cohort, store=store) for job in jobs]
        summaries = pool.map(jobs, progress)
    result = _result(summaries, jobs[0].params)
    if process.first:
        _remove_leftovers(Path(out), jobs, [] if refit else split.numbers, whole=fold is None and not refit)
        result.save(Path(out), "refit.json" if refit else "result.json")
        training_runs.log_in_task([Path(out) / one.name for one in splits])
    process.wait()
    return result


def _job(
    cohort: Location,
    features: Location | None,
    split: FoldSplit,
    params: TrainParams,
    winning: BestSettings | None,
    out: Path,
) -> FoldJob:
    settings = params if winning is None else winning.settings(params, split.fold)
    record = None if winning is None else winning.record(split.fold)
    return FoldJob(str(cohort), None if features is None else str(features), split, settings, out, search=record)


def _train_job(job: FoldJob, channel: "Channel") -> "FoldSummary":
    from mcti.steps.transfer import NO_FILES, load_cohorts, load_transfer
    from mcti.training.folds import train_fold

    data = _load(job.cohort, job.features, job.params.modalities, job.store)
    if job.by_cohort:
        transfer = load_cohorts(job.cohort, data, job.split.train)
    else:
        transfer = load_transfer(job.transfer or NO_FILES, data.genes, job.params.modalities)
    return train_fold(
        data,
        job.split,
        job.params,
        job.out,
        stop=channel.stop,
        progress=channel.progress,
        trace=job.trace,
        search=job.search,
        transfer=transfer,
    )


@lru_cache(maxsize=1)
def _load(cohort: str, features: str | None, modalities: str, store: Path | None) -> "Dataset":
    """The cohort, read once per process."""
    from mcti.dataset.loading import load_dataset

    data = load_dataset(cohort, None if modalities == "genes" else features, store=store)
    return data.restricted_to(modalities)


def _release_pretrainings(out: Path, jobs: list[FoldJob], numbers: list[int]) -> None:
    """Delete the pretrainings, if the jobs had any, when the folds of these numbers, all of the run, are trained."""
    from mcti.training.folds import checkpoint_parent
    from mcti.training.pretraining_store import release

    if any(job.by_cohort or (job.params.sources and job.params.fine_tuning != "none") for job in jobs):
        release(checkpoint_parent(out), [job.split.name for job in jobs], [f"fold_{number}" for number in numbers])


def _remove_leftovers(out: Path, jobs: list[FoldJob], numbers: list[int], *, whole: bool) -> None:
    """Remove the work folder, the pretrainings that no fold needs, and the folds that the split no longer has.

    numbers  of all folds of the run
    whole    whether all of them were trained; after a single fold the checkpoints of the others are kept
    """
    _release_pretrainings(out, jobs, numbers)
    with storage.translating_os_errors(out):
        if not whole:
            with contextlib.suppress(OSError):  # does not exist, or is not empty
                (out / ".work").rmdir()
            return
        shutil.rmtree(out / ".work", ignore_errors=True)
        names = {f"fold_{number}" for number in numbers}
        for folder in out.glob("fold_*"):
            if folder.name not in names:
                shutil.rmtree(folder)


def _result(summaries: "list[FoldSummary]", params: TrainParams) -> TrainResult:
    return TrainResult(
        folds=tuple(summary.fold for summary in summaries),
        train_patients=tuple(summary.train_patients for summary in summaries),
        test_patients=tuple(summary.test_patients for summary in summaries),
        loss=tuple(summary.loss for summary in summaries),
        parameters=summaries[0].parameters,
        epochs=params.epochs,
        preset=params.preset,
    )
