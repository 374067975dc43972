"""Cohort, features and folds to the training settings that win on the inner folds of one training part."""

import csv
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml

from mcti import storage
from mcti.cohort.folds import Folds, read_folds
from mcti.errors import DataError, UsageError
from mcti.evaluation.metrics import harrell_c
from mcti.params import SearchParams, TrainParams
from mcti.registry import ensemble, models
from mcti.registry import trials as tracked
from mcti.steps.gather import gather
from mcti.steps.result import StepResult
from mcti.steps.train import override
from mcti.storage import Location
from mcti.training import devices, search_figure
from mcti.training import search as searching
from mcti.training.folds import Dataset, Part, code_digest, predict, prepare
from mcti.training.loop import Paused, Progress, train
from mcti.training.pool import Channel, Pool, cores
from mcti.training.run import Diverged
from mcti.training.search import Setting, Trial
from mcti.training.shared_study import SharedStudy, is_shared


class SearchResult(StepResult):
    """What won, and on how many trials that rests; `c_index` is the mean over the inner folds."""

    c_index: float
    start_c_index: float | None
    settings: dict[str, Setting]
    trial: int
    trials: int
    pruned: int
    failed: int
    outer_fold: int
    epochs: int


class InitResult(StepResult):
    """The study that workers will find: its name, trials ended or begun in it, trials wanted."""

    study: str
    trials: int
    wanted: int


@dataclass(frozen=True)
class Job:
    """One inner fold under one choice of settings, as plain values that travel to a worker."""

    cohort: str
    features: str | None
    part: Part
    params: TrainParams
    seed_key: tuple[int | str, ...]


@dataclass(frozen=True)
class Study:
    """What the trials of a search are made of, as plain values that travel to a worker."""

    cohort: str
    features: str | None
    parts: tuple[Part, ...]
    base: TrainParams
    plan: searching.Plan
    params: SearchParams
    name: str

    def job(self, chosen: Mapping[str, Setting], inner: int) -> Job:
        """One inner fold under these settings."""
        return _job(self.cohort, self.features, self.parts[inner], self.base, chosen)


def search(
    cohort: Location,
    features: Location | None,
    folds: Location,
    params: SearchParams,
    train: TrainParams,
    out: Path,
    *,
    init: bool = False,
    progress: Progress | None = None,
) -> SearchResult | InitResult:
    """Search the settings of training over the inner folds of one outer training part.

    Reads   cohort, features/<slide_id>.h5 (None: genes alone), folds.csv; of no test patient of `params.outer_fold`
            anything enters a model or a score. The settings of `params.warm_start`, where a model is named
    Writes  out/{best.yaml,trials.csv,importance.png,result.json}: all of it or nothing. While it runs, the study lies
            beside `out` (or in `params.storage`); killed and started again, it goes on with the trials it has. Each
            trial is a run of the tracking server, where one is named
    init    only make the study in PostgreSQL, for workers to come
    Raises  DataError when no trial could be trained, UsageError for a space that names what training does not know,
            EnvironmentTrouble when PostgreSQL or the tracking server stays away, Paused after SIGTERM
    """
    devices.need(train.device)
    split = read_folds(folds)
    parts = inner_parts(split, params.outer_fold)
    base = train.model_copy(update={"epochs": params.epochs})
    searching.check_space(params.space)
    for name, values in params.space.items():
        for value in values:
            override(
                base, {name: value}, "search.space"
            )  # a value that training refuses is known before the first trial
    place = None if features is None else str(features)
    plan = _plan(params, base, len(parts))
    name = f"search-{_identity(gather(cohort, features), parts, params, base)}"
    _data.cache_clear()
    study = Study(str(cohort), place, tuple(parts), base, plan, params, name)
    if init:
        return _make(study)
    trials = (_shared if is_shared(params.storage) else _embedded)(study, Path(out), _Reporter(plan, progress))
    result = _write(Path(out), trials, params, plan)
    close_log(study, result, Path(out))
    shutil.rmtree(_work(Path(out)), ignore_errors=True)
    return result


def _make(study: Study) -> InitResult:
    if not is_shared(study.params.storage):
        mend = "give --storage postgresql://…; a study in SQLite is made by the search itself"
        raise UsageError("no study to share", "search --init", mend)
    with searching.quiet():
        found = open_shared(study)
        return InitResult(study=study.name, trials=len(found.trials()), wanted=study.plan.trials)


def _embedded(study: Study, out: Path, report: "_Reporter") -> list[Trial]:
    """The trials in rounds over the workers of this process; the study lies in SQLite, or where storage says."""
    url, logged = study.params.storage or _sqlite(_work(out)), TrialLog(study)
    with Pool(_score, study.base.workers, study.params.together) as pool:

        def evaluate(pairs: Sequence[tuple[Mapping[str, Setting], int]]) -> list[float]:
            if pool.event.is_set():
                raise Paused("paused between two trials", "the search", "run the same command again to go on from here")
            return pool.map([study.job(chosen, k) for chosen, k in pairs])

        def told(trials: list[Trial]) -> None:
            report(trials)
            for trial in trials:
                logged(trial)

        trials = searching.optimise(study.plan, url, study.name, evaluate, told)
    told(trials)
    return trials


def _shared(study: Study, out: Path, report: "_Reporter") -> list[Trial]:  # noqa: ARG001
    """The trials by as many workers as this process may have, together with those of other processes."""
    with searching.quiet():
        shared = open_shared(study)
        with shared.alone():  # one run of the study, whoever comes first
            parent = TrialLog(study).parent
        count = min(study.base.workers or cores(), study.plan.trials)
        with Pool(_worker, count, count) as pool:
            pool.map([Worker(study, parent, -(-study.plan.trials // count))] * count, report.counted)
            if pool.event.is_set():
                mend = "run the same command again, or leave the rest to the other workers"
                raise Paused("paused: its trials wait for a worker", "the search", mend)
        trials = shared.trials()
    if not any(trial.state == "complete" for trial in trials):
        mend = "lower the learning rates of search.space, or look at the data"
        raise DataError("no trial could be trained to its end", "the search", mend)
    return trials


@dataclass(frozen=True)
class Worker:
    """One worker of a shared study: the run to log below (empty: none), and its share of the trials, for the bar."""

    study: Study
    parent: str
    share: int


def _worker(job: Worker, channel: Channel) -> None:
    study, done, logged = job.study, 0, TrialLog(job.study, job.parent)

    def score(trial: Trial, inner: int) -> float:
        return _score(study.job(trial.settings, inner), _Quietly(channel))

    def told(trial: Trial) -> None:
        nonlocal done
        done += 1
        logged(trial)
        channel.progress(done, max(done, job.share), f"last C {trial.mean:.3f}, trials ended")

    with searching.quiet():
        open_shared(study).work(score, told, channel.stop)
    channel.progress(done, done, "trials ended")


class _Quietly:
    """A channel that passes the wish to stop, and no steps: the bar counts trials."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def progress(self, done: int, total: int, text: str) -> None:
        """Nothing."""

    def stop(self) -> bool:
        """Whether the job should end."""
        return self.channel.stop()


def open_shared(study: Study) -> SharedStudy:
    """The study in PostgreSQL, made unless it is there."""
    params = study.params
    assert params.storage is not None
    given = {"heartbeat_seconds": params.heartbeat_seconds, "wait_minutes": params.wait_minutes}
    return SharedStudy(study.plan, params.storage, study.name, **given)  # type: ignore[arg-type]


class TrialLog:
    """Trials in the tracking server, each once it has ended, below the run of the study; without a server nothing."""

    def __init__(self, study: Study, parent: str | None = None) -> None:
        self.seen: set[int] = set()
        if parent is None:
            told = {"outer_fold": study.params.outer_fold, "epochs": study.params.epochs, "seed": study.params.seed}
            logged = tracked.wanted()
            parent = tracked.open_study(study.params.experiment, study.name, told) if logged else ""
        self.parent = parent

    def __call__(self, trial: Trial) -> None:
        """Log a trial that has ended and is not there yet."""
        if self.parent and trial.state != "running" and trial.number not in self.seen:
            mean = trial.mean if trial.state == "complete" else None
            tracked.log_trial(self.parent, trial.number, trial.state, trial.settings, trial.scores, mean)
            self.seen.add(trial.number)


def close_log(study: Study, result: SearchResult, out: Path) -> None:
    """The result of the study into its run."""
    if tracked.wanted():
        files = [out / name for name in ("best.yaml", "trials.csv", "importance.png")]
        tracked.close_study(TrialLog(study).parent, {"c_index": result.c_index, "trials": result.trials}, files)


def inner_parts(split: Folds, outer_fold: int) -> list[Part]:
    """The inner folds of an outer training part as parts of their own; `fold` is the inner number."""
    inner = split.inner(outer_fold)
    numbers = sorted(set(inner.values()))
    return [
        Part(k, tuple(p for p, at in inner.items() if at != k), tuple(p for p, at in inner.items() if at == k))
        for k in numbers
    ]


def _job(cohort: str, features: str | None, part: Part, base: TrainParams, chosen: Mapping[str, Setting]) -> Job:
    # The same key for every trial: two settings are compared on the same draws of weights, batches and patches.
    return Job(cohort, features, part, override(base, dict(chosen), "search.space"), ("inner", part.fold))


def _score(job: Job, channel: Channel) -> float:
    """Harrell's C of an inner test part at the last epoch; NaN when training diverged."""
    data = _data(job.cohort, job.features, job.params.modalities)
    where = f"inner fold {job.part.fold}"
    chosen, tested = data.choose(job.part.train, where), data.choose(job.part.test, where)
    try:
        model = train(prepare(data, chosen, job.params, job.seed_key, where), progress=channel.progress).model
    except Diverged:
        return float("nan")
    risks = [row["risk"] for row in predict(model, tested, (12.0,))]
    events = np.array([bag.event for bag in tested])
    score = harrell_c(events, np.array([bag.time_months for bag in tested]), np.array(risks))
    if score != score:
        raise DataError("no two patients whose order is known", f"the test part of {where}", "take fewer inner folds")
    return score


@lru_cache(maxsize=1)
def _data(cohort: str, features: str | None, modalities: str) -> Dataset:
    """The cohort, read once a process."""
    return gather(cohort, None if modalities == "genes" else features).reading(modalities)


class _Reporter:
    """Turns finished rounds into progress: inner folds trained, of at most trials x folds."""

    def __init__(self, plan: searching.Plan, progress: Progress | None) -> None:
        self.plan, self.progress = plan, progress

    def __call__(self, trials: list[Trial]) -> None:
        if self.progress is None:
            return
        scored = sum(len(t.scores) if t.state == "running" else self.plan.folds for t in trials)
        leader = max((t.mean for t in trials if len(t.scores) == self.plan.folds), default=float("nan"))
        self.progress(scored, self.plan.trials * self.plan.folds, f"best C {leader:.3f}, inner folds scored")

    def counted(self, done: int, total: int, text: str) -> None:
        """Progress of workers that count trials themselves."""
        if self.progress is not None:
            self.progress(done, total, text)


def _plan(params: SearchParams, base: TrainParams, folds: int) -> searching.Plan:
    return searching.Plan(
        space=params.space,
        start=_settings(params, base.model_dump()),
        also=_champion(params),
        folds=folds,
        together=params.together,
        trials=params.trials,
        minutes=params.minutes,
        prune_p=params.prune_p,
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
        mend = "leave it out of search.space, or name a model that `mcti train` made"
        raise DataError(f"no setting {missing[0]!r} to start from", params.warm_start, mend)
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


_NOT_IN_STUDY = {"trials", "minutes", "storage", "heartbeat_seconds", "wait_minutes", "experiment", "warm_start"}
"""Settings of the search that change no trial; the settings of a warm start are trials of their own."""


def _identity(data: Dataset, parts: Sequence[Part], params: SearchParams, base: TrainParams) -> str:
    """What the trials depend on: a study of other data, settings or code is another study."""
    from mcti.training.bags import digest

    patients = [digest(data.choose((*part.train, *part.test), "the folds")) for part in parts]
    idle = {"workers", "checkpoint_seconds"}
    settings = {k: v for k, v in base.model_dump(mode="json").items() if k not in idle}
    asked = params.model_dump(mode="json", exclude=_NOT_IN_STUDY)
    text = storage.to_json([patients, data.genes, data.classes, settings, asked, code_digest()])
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _work(out: Path) -> Path:
    return out.parent / f".{out.name}.work"


def _sqlite(work: Path) -> str:
    with storage.explained(work):
        work.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{work / 'study.db'}"


def _write(out: Path, trials: Sequence[Trial], params: SearchParams, plan: searching.Plan) -> SearchResult:
    winner = searching.best(trials)
    first = trials[0] if trials[0].state == "complete" and trials[0].settings == dict(plan.start) else None
    result = SearchResult(
        c_index=winner.mean,
        start_c_index=first.mean if first else None,
        settings=winner.settings,
        trial=winner.number,
        trials=len(trials),
        pruned=sum(trial.state == "pruned" for trial in trials),
        failed=sum(trial.state == "failed" for trial in trials),
        outer_fold=params.outer_fold,
        epochs=params.epochs,
    )
    with storage.replacing(out) as draft:
        draft.mkdir()
        (draft / "best.yaml").write_text(_best_yaml(winner, result), encoding="utf-8")
        _write_trials(draft / "trials.csv", trials, plan)
        shares = searching.importance(trials, plan.space, plan.seed)
        search_figure.draw(trials, shares, draft / "importance.png")
        return result.save(draft)


def _best_yaml(winner: Trial, result: SearchResult) -> str:
    tree = {
        "settings": winner.settings,
        "inner": {
            "c_index": winner.mean,
            "c_index_by_fold": [winner.scores[k] for k in sorted(winner.scores)],
            "epochs": result.epochs,
            "outer_fold": result.outer_fold,
            "trial": winner.number,
        },
    }
    head = "# Settings of train that won on the inner folds, by dotted path, and the score they won with.\n"
    return head + yaml.safe_dump(tree, sort_keys=True, allow_unicode=True)


def _write_trials(path: Path, trials: Sequence[Trial], plan: searching.Plan) -> None:
    """trials.csv: trial, state, c_index (mean of the inner folds seen), one column an inner fold and a setting."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["trial", "state", "c_index", *(f"inner_{k}" for k in range(plan.folds)), *plan.space])
        for trial in trials:
            scores = [trial.scores.get(k, "") for k in range(plan.folds)]
            mean = trial.mean if trial.scores else ""
            writer.writerow([trial.number, trial.state, mean, *scores, *(trial.settings[name] for name in plan.space)])
