"""A search as plain values: its study, one inner fold of one trial as a job, and what the trials depend on."""

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
from mcti.dataset.bags import Dataset
from mcti.dataset.loading import load_dataset
from mcti.dataset.splits import FoldSplit
from mcti.errors import DataError
from mcti.evaluation.metrics import harrell_c
from mcti.params import SearchParams, TrainParams
from mcti.params.result_settings import trial_settings
from mcti.registry import ensemble, models
from mcti.steps.search.best_settings import override
from mcti.training import search as searching
from mcti.training.fold_files import predict
from mcti.training.folds import code_digest, prepare
from mcti.training.loop import train
from mcti.training.run import Diverged
from mcti.training.search import Setting
from mcti.training.worker_pool import Channel


@dataclass(frozen=True)
class Job:
    """One inner fold under one choice of settings, as plain values that travel to a worker."""

    cohort: str
    features: str | None
    part: FoldSplit
    params: TrainParams
    seed_key: tuple[int | str, ...]


@dataclass(frozen=True)
class Study:
    """What the trials of a search are made of, as plain values that travel to a worker."""

    cohort: str
    features: str | None
    parts: tuple[FoldSplit, ...]
    base: TrainParams
    plan: searching.Plan
    params: SearchParams
    name: str

    def job(self, chosen: Mapping[str, Setting], inner: int) -> Job:
        """One inner fold under these settings."""
        return job_of(self.cohort, self.features, self.parts[inner], self.base, chosen)


def inner_parts(split: Folds, outer_fold: int) -> list[FoldSplit]:
    """The inner folds of an outer training part as parts of their own; `fold` is the inner number."""
    inner = split.inner(outer_fold)
    numbers = sorted(set(inner.values()))
    return [
        FoldSplit(k, tuple(p for p, at in inner.items() if at != k), tuple(p for p, at in inner.items() if at == k))
        for k in numbers
    ]


def job_of(cohort: str, features: str | None, part: FoldSplit, base: TrainParams, chosen: Mapping[str, Setting]) -> Job:
    """One inner fold under these settings."""
    # The same key for every trial: two settings are compared on the same draws of weights, batches and patches.
    return Job(cohort, features, part, override(base, dict(chosen), "search.space"), ("inner", part.fold))


def score(job: Job, channel: Channel) -> float:
    """Harrell's C of an inner test part at the last epoch; NaN when training diverged."""
    data = data_of(job.cohort, job.features, job.params.modalities)
    where = f"inner fold {job.part.fold}"
    chosen, tested = data.select(job.part.train, where), data.select(job.part.test, where)
    try:
        model = train(prepare(data, chosen, job.params, job.seed_key, where), progress=channel.progress).model
    except Diverged:
        return float("nan")
    for bag in tested:  # what is wrong with a patient ends the search; what the weights make of them, the trial
        model.inputs(bag.patches, bag.genes, bag.covariates)
    try:
        risks = [row["risk"] for row in predict(model, tested, (12.0,))]
    except DataError:  # weights so large that the forward pass overflows
        return float("nan")
    if not np.isfinite(risks).all():
        return float("nan")
    events = np.array([bag.event for bag in tested])
    found = harrell_c(events, np.array([bag.time_months for bag in tested]), np.array(risks))
    if found != found:
        raise DataError("no two patients whose order is known", f"the test part of {where}", "take fewer inner folds")
    return found


@lru_cache(maxsize=1)
def data_of(cohort: str, features: str | None, modalities: str) -> Dataset:
    """The cohort, read once a process."""
    return load_dataset(cohort, None if modalities == "genes" else features).restricted_to(modalities)


def plan_of(params: SearchParams, base: TrainParams, folds: int) -> searching.Plan:
    """What the sampler is told: the space, where to start, how many trials of how many inner folds."""
    return searching.Plan(
        space=params.space,
        start=_settings(params, base.model_dump()),
        also=_champion(params),
        folds=folds,
        parallel_trials=params.parallel_trials,
        trials=params.trials,
        timeout_minutes=params.timeout_minutes,
        wilcoxon_p_threshold=params.wilcoxon_p_threshold,
        seed=params.seed,
    )


def _champion(params: SearchParams) -> list[dict[str, Setting]]:
    """The settings with which the folds of `warm_start` were trained, each once."""
    if params.warm_start is None:
        return []
    found: list[dict[str, Setting]] = []
    with TemporaryDirectory(prefix="mcti-search-") as scratch:
        folder = models.fetch(params.warm_start, Path(scratch))
        for path in ensemble.fold_folders(folder):
            settings = _settings(params, storage.read_json(path / "model.json").get("params", {}))
            if settings not in found:
                found.append(settings)
    if not all(set(settings) == set(params.space) for settings in found):
        missing = sorted(set(params.space) - set(found[0]))
        hint = "leave it out of search.space, or name a model that `mcti train` made"
        raise DataError(f"no setting {missing[0]!r} to start from", params.warm_start, hint)
    return found


def _settings(params: SearchParams, tree: Mapping[str, Any]) -> dict[str, Setting]:
    """The settings of training in `tree` under the names of the space; those that it leaves open are missing."""
    found: dict[str, Setting] = {}
    for name in params.space:
        value: object = tree
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, int | float | str):
            found[name] = value
    return found


_NOT_IN_STUDY = {
    "trials",
    "timeout_minutes",
    "storage",
    "heartbeat_seconds",
    "wait_minutes",
    "experiment",
    "warm_start",
    "nested",
}
"""Settings of the search that change no trial; the settings of a warm start are trials of their own."""


def identity(data: Dataset, parts: Sequence[FoldSplit], params: SearchParams, base: TrainParams) -> str:
    """What the trials depend on: a study of other data, settings or code is another study."""
    from mcti.dataset.bags import digest

    patients = [digest(data.select((*part.train, *part.test), "the folds")) for part in parts]
    settings = trial_settings(base)
    asked = params.model_dump(mode="json", exclude=_NOT_IN_STUDY)
    text = storage.to_json([patients, data.genes, data.classes, settings, asked, code_digest()])
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
