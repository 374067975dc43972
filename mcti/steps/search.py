"""Cohort, features and folds to the training settings that win on the inner folds of one training part."""

import csv
import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import yaml

from mcti import storage
from mcti.cohort.folds import Folds, read_folds
from mcti.errors import DataError
from mcti.evaluation.metrics import harrell_c
from mcti.params import SearchParams, TrainParams
from mcti.steps.gather import gather
from mcti.steps.result import StepResult
from mcti.steps.train import override
from mcti.storage import Location
from mcti.training import devices, search_figure
from mcti.training import search as searching
from mcti.training.folds import Dataset, Part, code_digest, predict, prepare
from mcti.training.loop import Diverged, Paused, Progress, train
from mcti.training.pool import Channel, Pool
from mcti.training.search import Setting, Trial


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


@dataclass(frozen=True)
class Job:
    """One inner fold under one choice of settings, as plain values that travel to a worker."""

    cohort: str
    features: str | None
    part: Part
    params: TrainParams
    seed_key: tuple[int | str, ...]


def search(
    cohort: Location,
    features: Location | None,
    folds: Location,
    params: SearchParams,
    train: TrainParams,
    out: Path,
    *,
    progress: Progress | None = None,
) -> SearchResult:
    """Search the settings of training over the inner folds of one outer training part.

    Reads   cohort, features/<slide_id>.h5 (None: genes alone), folds.csv; of no test patient of `params.outer_fold`
            anything enters a model or a score
    Writes  out/{best.yaml,trials.csv,importance.png,result.json}: all of it or nothing. While it runs, the study lies
            beside `out` (or in `params.storage`); killed and started again, it goes on with the trials it has
    Raises  DataError when no trial could be trained, UsageError for a space that names what training does not know
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
    work = Path(out).parent / f".{Path(out).name}.work"
    url = params.storage or _embedded(work)
    plan = _plan(params, base, len(parts))
    name = f"search-{_identity(gather(cohort, features), parts, params, base)}"
    _data.cache_clear()
    with Pool(_score, base.workers, params.together) as pool:

        def evaluate(pairs: Sequence[tuple[Mapping[str, Setting], int]]) -> list[float]:
            if pool.event.is_set():
                raise Paused("paused between two trials", "the search", "run the same command again to go on from here")
            return pool.map([_job(str(cohort), place, parts[k], base, chosen) for chosen, k in pairs])

        trials = searching.optimise(plan, url, name, evaluate, _Reporter(plan, progress))
    result = _write(Path(out), trials, params, plan)
    shutil.rmtree(work, ignore_errors=True)
    return result


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
    data = _data(job.cohort, job.features)
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
def _data(cohort: str, features: str | None) -> Dataset:
    """The cohort, read once a process."""
    return gather(cohort, features)


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


def _plan(params: SearchParams, base: TrainParams, folds: int) -> searching.Plan:
    return searching.Plan(
        space=params.space,
        start=_start(params, base),
        folds=folds,
        together=params.together,
        trials=params.trials,
        minutes=params.minutes,
        prune_p=params.prune_p,
        seed=params.seed,
    )


def _start(params: SearchParams, base: TrainParams) -> dict[str, Setting]:
    """The present settings of training under the names of the space; those that train leaves open are missing."""
    found: dict[str, Setting] = {}
    for name in params.space:
        value: object = base.model_dump()
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, int | float | str):
            found[name] = value
    return found


def _identity(data: Dataset, parts: Sequence[Part], params: SearchParams, base: TrainParams) -> str:
    """What the trials depend on: a study of other data, settings or code is another study."""
    from mcti.training.bags import digest

    patients = [digest(data.choose((*part.train, *part.test), "the folds")) for part in parts]
    idle = {"workers", "checkpoint_seconds"}
    settings = {k: v for k, v in base.model_dump(mode="json").items() if k not in idle}
    asked = params.model_dump(mode="json", exclude={"trials", "minutes", "storage"})
    text = storage.to_json([patients, data.genes, data.classes, settings, asked, code_digest()])
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _embedded(work: Path) -> str:
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
