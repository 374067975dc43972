"""A search as plain values: its study, one inner fold of one trial as a job, and the identity of the study."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from mcti import storage
from mcti.cohort.folds import Folds
from mcti.concordance import harrell_c
from mcti.dataset.bags import Dataset, entries
from mcti.dataset.loading import load_dataset
from mcti.dataset.sources import NO_TRANSFER, Transfer
from mcti.dataset.splits import FoldSplit
from mcti.errors import DataError
from mcti.params import SearchParams, TrainParams
from mcti.params.result_settings import trial_settings
from mcti.registry import ensemble_files, models
from mcti.steps.search.best_settings import override
from mcti.steps.transfer import NO_FILES, TransferFiles, load_transfer
from mcti.training import search as searching
from mcti.training.batched_risks import batched_risks
from mcti.training.code_version import code_digest
from mcti.training.fine_tuning import train
from mcti.training.folds import prepare
from mcti.training.run import Diverged
from mcti.training.search import Setting
from mcti.training.transfer_record import transfer_digests
from mcti.training.worker_pool import Channel


@dataclass(frozen=True)
class TrialJob:
    """One inner fold with the settings of one trial, as plain values that are sent to a worker."""

    cohort: str
    features: str | None
    split: FoldSplit
    params: TrainParams
    seed_key: tuple[int | str, ...]
    transfer: TransferFiles = NO_FILES
    store: Path | None = None


@dataclass(frozen=True)
class Study:
    """Data, inner folds and settings of the trials of a search, as plain values that are sent to a worker."""

    cohort: str
    features: str | None
    splits: tuple[FoldSplit, ...]
    base: TrainParams
    plan: searching.Plan
    params: SearchParams
    name: str
    transfer: TransferFiles = NO_FILES
    store: Path | None = None

    def job(self, settings: Mapping[str, Setting], inner: int) -> TrialJob:
        """One inner fold with these settings."""
        params, split = override(self.base, dict(settings), "search.space"), self.splits[inner]
        # The seed key is the same in each trial: settings are compared on equal draws of weights, batches and patches.
        return TrialJob(self.cohort, self.features, split, params, ("inner", split.fold), self.transfer, self.store)


def inner_splits(folds: Folds, outer_fold: int) -> list[FoldSplit]:
    """The inner folds of an outer training part; `fold` is the inner number."""
    inner = folds.inner(outer_fold)
    return [
        FoldSplit(
            number,
            tuple(patient for patient, fold in inner.items() if fold != number),
            tuple(patient for patient, fold in inner.items() if fold == number),
        )
        for number in sorted(set(inner.values()))
    ]


def score(job: TrialJob, channel: Channel) -> float:
    """Harrell's C of an inner test part at the last epoch, between 0 and 1; NaN when training diverged.

    Raises DataError when no model can be fitted, a test patient does not fit the model, or no pair is comparable.
    """
    data = load(job.cohort, job.features, job.params.modalities, job.store)
    where = f"inner fold {job.split.fold}"
    train_bags, test_bags = data.select(job.split.train, where), data.select(job.split.test, where)
    transfer = load_transfer(job.transfer, data.genes, job.params.modalities)
    task = prepare(data, train_bags, job.params, job.seed_key, where, transfer)
    try:
        model = train(task, progress=channel.progress).model
    except Diverged:
        return float("nan")
    for bag in test_bags:  # malformed data of a patient end the search; an overflow of the weights ends the trial
        model.inputs(bag.patches, bag.genes, bag.clinical)
    try:
        risks = batched_risks(model, test_bags)
    except DataError:  # the weights are so large that the forward pass overflows
        return float("nan")
    if not np.isfinite(risks).all():
        return float("nan")
    events = np.array([bag.event for bag in test_bags])
    months = np.array([bag.time_months for bag in test_bags])
    c_index = harrell_c(events, months, np.array(risks), entries(test_bags))
    if c_index != c_index:
        raise DataError("no comparable pair of patients", f"the test part of {where}", "choose fewer inner folds")
    return c_index


@lru_cache(maxsize=1)
def load(cohort: str, features: str | None, modalities: str, store: Path | None) -> Dataset:
    """The cohort, read once per process."""
    data = load_dataset(cohort, None if modalities == "genes" else features, store=store)
    return data.restricted_to(modalities)


def plan_of(params: SearchParams, base: TrainParams, folds: int) -> searching.Plan:
    """The plan of a search: space, starting settings, number of trials and of inner folds."""
    return searching.Plan(
        space=params.space,
        start=_settings(params, base.model_dump()),
        warm_starts=_warm_start_settings(params),
        folds=folds,
        parallel_trials=params.parallel_trials,
        trials=params.trials,
        timeout_minutes=params.timeout_minutes,
        wilcoxon_p_threshold=params.wilcoxon_p_threshold,
        seed=params.seed,
    )


def _warm_start_settings(params: SearchParams) -> list[dict[str, Setting]]:
    """The settings with which the folds of `warm_start` were trained, each once."""
    if params.warm_start is None:
        return []
    starts: list[dict[str, Setting]] = []
    with TemporaryDirectory(prefix="mcti-search-") as scratch:
        folder = models.fetch(params.warm_start, Path(scratch))
        for path in ensemble_files.fold_folders(folder):
            settings = _settings(params, storage.read_json(path / "model.json").get("params", {}))
            if settings not in starts:
                starts.append(settings)
    if not all(set(settings) == set(params.space) for settings in starts):
        missing = sorted(set(params.space) - set(starts[0]))
        hint = "remove it from search.space, or name a model that `mcti train` made"
        raise DataError(f"no setting {missing[0]!r} to start from", params.warm_start, hint)
    return starts


def _settings(params: SearchParams, tree: Mapping[str, Any]) -> dict[str, Setting]:
    """The settings in `tree` with the names of the space; settings that it does not contain are missing."""
    settings: dict[str, Setting] = {}
    for name in params.space:
        value: object = tree
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, int | float | str):
            settings[name] = value
    return settings


_NOT_IN_STUDY = {
    "trials",
    "timeout_minutes",
    "storage",
    "wait_minutes",
    "experiment",
    "warm_start",
    "nested",
}
"""Settings of the search that do not change a trial; the settings of a warm start are separate trials."""


def identity(
    data: Dataset,
    splits: Sequence[FoldSplit],
    params: SearchParams,
    base: TrainParams,
    transfer: Transfer = NO_TRANSFER,
) -> str:
    """MD5 of data, settings and code, which determine the trials; it is part of the name of the study."""
    from mcti.dataset.bags import digest

    patients = [digest(data.select((*split.train, *split.test), "the folds")) for split in splits]
    settings = trial_settings(base.model_copy(update={"sources": (), "prior": None}))  # they count by their contents
    search = params.model_dump(mode="json", exclude=_NOT_IN_STUDY)
    parts = [patients, data.genes, data.classes, settings, search, code_digest()]
    digests = transfer_digests(transfer)
    text = storage.to_json([*parts, digests] if digests else parts)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
