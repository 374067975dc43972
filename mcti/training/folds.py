"""One fold: what is fitted on its training part, and its training from the first step to its folder."""

import dataclasses
import hashlib
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcti import storage
from mcti.dataset.bags import Dataset, PatientBag, check_training_part, digest
from mcti.dataset.sampling import hold_out
from mcti.dataset.scaling import fit_competing, fit_covariates, fit_inputs
from mcti.dataset.sources import NO_TRANSFER, Transfer
from mcti.dataset.splits import FoldSplit
from mcti.errors import DataError
from mcti.model.categories import Category
from mcti.model.presets import ModelConfig, preset
from mcti.model.trained import TrainedModel, select_modalities
from mcti.params import TrainParams
from mcti.params.result_settings import result_settings
from mcti.progress import Progress
from mcti.training import fold_files, recalibration
from mcti.training.code_version import code_digest
from mcti.training.distributed import ranks
from mcti.training.fine_tuning import train
from mcti.training.loop import CheckpointConfig, Outcome
from mcti.training.run import Task
from mcti.training.successive_runs import SuccessiveRuns
from mcti.training.transfer_record import transfer_digests, transfer_record

_log = logging.getLogger(__name__)


class NothingToProfile(UserWarning):
    """A profile was requested of a fold that is already trained."""


def train_fold(  # noqa: PLR0913  (data, split, params, out, options)
    data: Dataset,
    split: FoldSplit,
    params: TrainParams,
    out: Path,
    *,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress | None = None,
    trace: Path | None = None,
    search: Mapping[str, Any] | None = None,
    transfer: Transfer = NO_TRANSFER,
) -> fold_files.FoldSummary:
    """Train the model of one fold.

    Writes  out/fold_<k>/{weights.safetensors,model.json,predictions.csv,history.csv}; regimes.csv for a model that
            accepts an absent modality; uncalibrated.csv for a model with recalibrated curves
    trace   file for the profile of a few steps
    search  what model.json records of the search that chose the settings (None: there was none)
    transfer  other cohorts and the registered model that the training learns from

    A folder that was made from the same data, settings and code is kept. An interrupted run resumes from the
    checkpoints in out/.work/fold_<k>, or below MCTI_CHECKPOINTS; they are deleted when the fold is written.

    Raises DataError when the training part has no event or no patient of some subtype, a bag is malformed, the loss is
    not finite, or the checkpoints belong to other data or settings
    Raises Paused when `stop()` returned true
    """
    where, folder = split.name.replace("_", " "), out / split.name
    train_bags, test_bags = data.select(split.train, where), data.select(split.test, where)
    identity = identify(data, train_bags, test_bags, params, split.fold, transfer)
    identity |= {} if search is None else {"search": dict(search)}
    work = _checkpoint_folder(out, split, identity)
    if fold_files.is_current(folder, identity):
        _log.info("%s: already trained from the same data, settings and code, kept: %s", where, folder)
        if trace is not None:
            warnings.warn(f"{where} is finished: there is no step to profile", NothingToProfile, stacklevel=2)
    else:
        task = prepare(data, train_bags, params, ("fold", split.fold), where, transfer)
        check_test_part(task.config, test_bags, where)
        checkpointing = CheckpointConfig(work, identity, stop)
        runs = SuccessiveRuns(progress, 1 + params.recalibration_folds)
        trace = trace if ranks().first else None
        outcome = train(task, checkpointing=checkpointing, progress=runs.progress, trace=trace)
        if params.recalibration_folds:
            outcome = recalibrate(outcome, data, train_bags, params, split, checkpointing, runs, transfer)
        outcome = with_competing_hazard(outcome, train_bags)
        if ranks().first:
            cohort = fold_files.cohort_record(data.cohort, train_bags, params)
            record = {"features": dict(data.provenance), "cohort": cohort, **transfer_record(transfer)}
            fold_files.write(folder, outcome, train_bags, test_bags, params, split.fold, identity, record)
    ranks().wait()  # the other processes read the files of the first process
    if ranks().first:
        shutil.rmtree(work, ignore_errors=True)
    return fold_files.summary(folder, split.fold, len(split.train), len(split.test))


def _checkpoint_folder(out: Path, split: FoldSplit, identity: Mapping[str, Any]) -> Path:
    """The folder of the checkpoints of a fold.

    A task that Kubernetes retries starts in an empty folder: MCTI_CHECKPOINTS names one that outlives the pod. Each
    pipeline run (MCTI_RUN) and each identity has its own folder below it, so that no two tasks share one.
    """
    persistent = bool(os.environ.get("MCTI_CHECKPOINTS"))
    return checkpoint_parent(out) / (storage.text_md5(storage.to_json(identity)) if persistent else split.name)


def checkpoint_parent(out: Path) -> Path:
    """The folder that contains those of the checkpoints of all folds of a run."""
    persistent = os.environ.get("MCTI_CHECKPOINTS")
    return Path(persistent) / (os.environ.get("MCTI_RUN") or "no-run") if persistent else out / ".work"


def prepare(
    data: Dataset,
    bags: Sequence[PatientBag],
    params: TrainParams,
    seed_key: tuple[int | str, ...],
    where: str,
    transfer: Transfer = NO_TRANSFER,
) -> Task:
    """The checked task of training on `bags`: scales and bins, fitted on them alone, and the network configuration.

    With `patience` a share of `bags` is held out: it is not used to fit anything, and its loss ends the training.

    Raises DataError when no model can be fitted on the bags, naming the patient or the class.
    """
    validation: list[PatientBag] = []
    if params.patience:
        bags, validation = hold_out(bags, params.validation_share, (params.seed, *seed_key))
        where = f"{where}, without its inner validation part"
    check_training_part(bags, data.classes, f"the training part of {where}")
    fitted = fit_inputs(bags, params.bins, len(data.genes), params.gene_transform)
    config = configure(data, bags, params, features=len(fitted.features.mean))
    if config.covariates:
        fitted = dataclasses.replace(fitted, covariates=fit_covariates(bags, config.clinical_inputs))
    task = Task(bags, fitted, config, params, seed_key, where, validation, transfer.sources, transfer.prior)
    return dataclasses.replace(task, by_cohort=transfer.by_cohort)


def recalibrate(
    outcome: Outcome,
    data: Dataset,
    bags: Sequence[PatientBag],
    params: TrainParams,
    split: FoldSplit,
    checkpointing: CheckpointConfig,
    runs: SuccessiveRuns,
    transfer: Transfer = NO_TRANSFER,
) -> Outcome:
    """The outcome with survival curves recalibrated by inner models of the same training part (recalibration.py)."""
    config, fitted = outcome.model.config, outcome.model.fitted
    # In an inner part each patient may have slides, and its model must still predict a patient without slides.
    shape = {"missing": config.missing, "modalities": config.modalities}
    settings = params.model_copy(update={"architecture": params.architecture.model_copy(update=shape)})

    def train_inner(kept: list[PatientBag], number: int) -> TrainedModel:
        runs.finished = 1 + number
        where = f"{split.name.replace('_', ' ')}, inner model {number + 1} of the recalibration"
        task = prepare(data, kept, settings, ("fold", split.fold, "inner", number), where, transfer)
        identity = {**checkpointing.identity, "inner": number}
        inner = CheckpointConfig(checkpointing.folder / f"inner_{number}", identity, checkpointing.stop)
        return train(task, checkpointing=inner, progress=runs.progress).model

    key = (params.seed, "fold", split.fold)
    fit = recalibration.fit_by_inner_models(fitted.edges, bags, params.recalibration_folds, key, train_inner)
    model = TrainedModel(outcome.model.net, config, dataclasses.replace(fitted, recalibration=fit))
    return dataclasses.replace(outcome, model=model)


def with_competing_hazard(outcome: Outcome, bags: Sequence[PatientBag]) -> Outcome:
    """The outcome with the hazard of the competing event in the whole training part, where the cohort records it."""
    competing = fit_competing(bags)
    if competing is None:
        return outcome
    model = outcome.model
    fitted = dataclasses.replace(model.fitted, competing=competing)
    return dataclasses.replace(outcome, model=TrainedModel(model.net, model.config, fitted))


def check_test_part(config: ModelConfig, bags: Sequence[PatientBag], where: str) -> None:
    """Check, before the training starts, that the model can predict every test patient.

    Raises DataError as `TrainedModel.predict`, naming the patient.
    """
    for bag in bags:
        try:
            select_modalities(config, bag.patches, bag.genes)
        except DataError as error:
            raise DataError(error.what, f"{error.where}, {where}, patient {bag.patient_id}", error.hint) from error


def configure(data: Dataset, bags: Sequence[PatientBag], params: TrainParams, features: int) -> ModelConfig:
    """The network configuration; it learns tokens for absent modalities if a training patient lacks a modality."""
    missing = params.modality_dropout > 0 or any(bag.patches is None or bag.genes is None for bag in bags)
    slides, genes = any(bag.patches is not None for bag in bags), any(bag.genes is not None for bag in bags)
    modalities = [name for name, present in (("slides", slides), ("genes", genes)) if present]
    architecture = {"missing": missing, "modalities": modalities}
    architecture |= params.architecture.changes()
    config = preset(
        params.preset,
        features=features,
        genes=data.genes,
        classes=data.classes,
        bins=params.bins.count,
        **architecture,
    )
    return dataclasses.replace(config, categories=learn_categories(config.covariates, bags, data.ordered))


def learn_categories(
    names: Sequence[str], bags: Sequence[PatientBag], ordered: Mapping[str, tuple[str, ...]]
) -> tuple[Category, ...]:
    """The levels of the categorical covariates among `names` in a training part; ordered: levels of ordered scales.

    Raises DataError as `Category.learn`.
    """
    texts = [name for name in names if any(name in bag.categories for bag in bags)]
    where = "the training part"
    return tuple(
        Category.learn(name, [bag.categories.get(name) for bag in bags], ordered.get(name, ()), where) for name in texts
    )


def identify(
    data: Dataset,
    train_bags: Sequence[PatientBag],
    test_bags: Sequence[PatientBag],
    params: TrainParams,
    fold: int,
    transfer: Transfer = NO_TRANSFER,
) -> dict[str, Any]:
    """Everything that determines the bits of the result of a fold: data, settings and training code.

    Sources and prior count by their contents, not by the addresses in the settings.
    """
    names = hashlib.md5("\0".join([*data.genes, "", *data.classes]).encode(), usedforsecurity=False).hexdigest()
    covariates = params.architecture.covariates or ()
    digests = {
        "train": digest(train_bags, covariates),
        "test": digest(test_bags, covariates),
        "names": names,
        "code": code_digest(),
        **transfer_digests(transfer),
        **_orders(data, covariates),
    }
    settings = result_settings("train", params)
    settings = {name: value for name, value in settings.items() if name not in {"sources", "prior"}}
    return {"fold": fold, "digests": digests, "params": settings}


def _orders(data: Dataset, covariates: Sequence[str]) -> dict[str, str]:
    """The order of the levels that the model reads, as text; empty where no covariate is ordered."""
    read = {name: list(data.ordered[name]) for name in sorted(covariates) if name in data.ordered}
    return {"ordered_levels": storage.text_md5(storage.to_json(read))} if read else {}
