"""The work of the step `search` (mcti/steps/search/step.py), which imports this module when it runs."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mcti import storage
from mcti.cohort.folds import Folds, read_folds
from mcti.dataset.loading import check_covariates, load_dataset
from mcti.errors import UsageError
from mcti.params import SearchParams, TrainParams
from mcti.params.search import check_space
from mcti.progress import Progress
from mcti.steps.search import record, study_setup
from mcti.steps.search.record import NestedResult, SearchResult, TrialLog, close_log
from mcti.steps.search.step import InitResult
from mcti.steps.search.study_setup import Study
from mcti.steps.transfer import TransferFiles, load_transfer, transfer_files
from mcti.storage import Location
from mcti.training import devices
from mcti.training import search as searching
from mcti.training.loop import Paused
from mcti.training.search import Setting, Trial
from mcti.training.shared_bags import shared_bags
from mcti.training.shared_study import SharedStudy, is_shared
from mcti.training.worker_pool import Channel, Pool, cores


def run(
    cohort: Location,
    features: Location | None,
    folds: Location,
    params: SearchParams,
    train: TrainParams,
    out: Path,
    *,
    init: bool,
    progress: Progress | None,
) -> SearchResult | NestedResult | InitResult:
    """The search, or the searches of all outer folds; arguments, files and errors of `search`."""
    devices.require_device(train.device)
    split = read_folds(folds)
    base = train.model_copy(update={"epochs": params.epochs})
    _check_space(params, base)
    check_covariates(cohort, base.architecture.covariates or ())
    numbers = split.numbers if params.nested else [params.outer_fold]
    single = [params.model_copy(update={"outer_fold": number, "nested": False}) for number in numbers]
    with (
        transfer_files(cohort, features, split, base) as transfer,
        shared_bags(cohort, features, _work(Path(out))) as store,
    ):
        planned = [_study(cohort, features, split, one, base, transfer, store) for one in single]
        if init:
            return _initialise(planned)
        result = _nested(planned, Path(out), progress) if params.nested else _searched(planned[0], Path(out), progress)
    for folder in (_work(Path(out)), _nested_work(Path(out))):
        shutil.rmtree(folder, ignore_errors=True)
    return result


def _check_space(params: SearchParams, base: TrainParams) -> None:
    """Check, before the first trial, that training accepts the values of the space."""
    try:
        check_space(params.space, base)
    except ValueError as error:
        what, _, hint = str(error).partition(": ")
        raise UsageError(what, "search.space", hint) from None


def _study(
    cohort: Location,
    features: Location | None,
    split: Folds,
    params: SearchParams,
    base: TrainParams,
    transfer: TransferFiles,
    store: Path | None,
) -> Study:
    """The study of one outer training part."""
    splits = study_setup.inner_splits(split, params.outer_fold)
    plan = study_setup.plan_of(params, base, len(splits))
    data = load_dataset(cohort, features, store=store)
    loaded = load_transfer(transfer, data.genes, base.modalities)
    name = f"search-{study_setup.identity(data, splits, params, base, loaded)}"
    study_setup.load.cache_clear()
    address = None if features is None else str(features)
    return Study(str(cohort), address, tuple(splits), base, plan, params, name, transfer, store)


def _searched(study: Study, out: Path, progress: Progress | None) -> SearchResult:
    """Run one study and write its result; the study itself is kept."""
    trials = (_shared if is_shared(study.params.storage) else _embedded)(study, out, _Reporter(study.plan, progress))
    result = record.write(out, trials, study.params, study.plan)
    close_log(study, result, out)
    return result


def _nested(planned: Sequence[Study], out: Path, progress: Progress | None) -> NestedResult:
    """Run one search after the other, each inside the training part of its outer fold.

    Each study is kept until the last one has ended: a resumed search runs no trial twice.
    """
    results = {}
    restored: dict[int, float] = {}
    for done, planned_study in enumerate(planned):
        number = planned_study.params.outer_fold
        counted = None if progress is None else _FoldProgress(progress, done, len(planned), number, restored)
        results[number] = _searched(planned_study, _nested_work(out) / f"fold_{number}", counted)
    return record.write_nested(out, results, _nested_work(out))


@dataclass(frozen=True)
class _FoldProgress:
    """Progress of one of several searches, as a part of all of them; `done` searches have ended before it.

    restored    inner folds that each search restored, by outer fold; shared by the searches, so that the rate of the
                next search excludes what an earlier one restored
    """

    progress: Progress
    done: int
    searches: int
    fold: int
    restored: dict[int, float]

    def __call__(self, done: float, total: float, unit: str, detail: str = "", restored: float = 0, /) -> None:
        text = f"outer fold {self.fold}" + (f", {detail}" if detail else "")
        self.restored[self.fold] = restored
        self.progress(self.done * total + done, self.searches * total, unit, text, sum(self.restored.values()))


def _initialise(planned: Sequence[Study]) -> InitResult:
    if not is_shared(planned[0].params.storage):
        hint = "give --storage postgresql://…; the search itself creates a study in SQLite"
        raise UsageError("no study to share", "search --init", hint)
    with searching.quiet():
        trials = sum(len(open_shared(study).trials()) for study in planned)
    total = sum(study.plan.trials for study in planned)
    return InitResult(study=" ".join(study.name for study in planned), trials=trials, planned=total)


def _embedded(study: Study, out: Path, report: "_Reporter") -> list[Trial]:
    """The trials in rounds over the workers of this process; the study is in SQLite, or in `params.storage`."""
    url, logged = study.params.storage or _sqlite(_work(out)), TrialLog(study)
    with Pool(study_setup.score, study.base.workers, study.params.parallel_trials) as pool:

        def evaluate(pairs: Sequence[tuple[Mapping[str, Setting], int]]) -> list[float]:
            if pool.event.is_set():
                raise Paused("paused between two trials", "the search", "run the same command again to resume")
            jobs = [study.job(settings, inner) for settings, inner in pairs]
            return pool.map(jobs, report.round_progress(len(pairs)))

        def report_and_log(trials: list[Trial]) -> None:
            report(trials)
            for trial in trials:
                logged(trial)

        trials = searching.optimise(study.plan, url, study.name, evaluate, report_and_log)
    report_and_log(trials)
    return trials


def _shared(study: Study, out: Path, report: "_Reporter") -> list[Trial]:  # noqa: ARG001
    """The trials by the workers of this process, shared with the workers of other processes."""
    with searching.quiet():
        shared = open_shared(study)
        with shared.exclusive():  # one run of the study, opened by the first process
            parent = TrialLog(study).parent
        searching.log_resumed(shared.trials(), study.plan)
        count = min(study.base.workers or cores(), study.plan.trials)
        with Pool(_worker, count, count) as pool:
            pool.map([Worker(study, parent, -(-study.plan.trials // count))] * count, report.trial_progress)
            if pool.event.is_set():
                hint = "run the same command again, or let the other workers finish"
                raise Paused("paused: its trials wait for a worker", "the search", hint)
        trials = shared.trials()
    searching.check_complete(trials)
    return trials


@dataclass(frozen=True)
class Worker:
    """One worker of a shared study.

    parent  tracking run of the study (empty: none);  share: expected number of its trials, for the progress bar
    """

    study: Study
    parent: str
    share: int


def _worker(job: Worker, channel: Channel) -> None:
    study, done, logged = job.study, 0, TrialLog(job.study, job.parent)

    def score(trial: Trial, inner: int) -> float:
        steps = _Steps(channel, done, max(done, job.share), f"trial {trial.number}, inner fold {inner}")
        return study_setup.score(study.job(trial.settings, inner), steps)

    def on_end(trial: Trial) -> None:
        nonlocal done
        done += 1
        logged(trial)
        score = f"last C {trial.mean:.3f}" if trial.state == "complete" else f"last trial {trial.state}"
        channel.progress(done, max(done, job.share), "trials", score)

    with searching.quiet():
        open_shared(study).work(score, on_end, channel.stop)
    channel.progress(done, done, "trials")


@dataclass(frozen=True)
class _Steps:
    """The channel of one training of a trial: `done` of `share` trials have ended, and its steps are the detail."""

    channel: Channel
    done: int
    share: int
    name: str

    def progress(self, done: float, total: float, unit: str, detail: str = "", restored: float = 0, /) -> None:  # noqa: ARG002
        """The steps of the training."""
        self.channel.progress(self.done, self.share, "trials", f"{self.name}: {int(done)} of {int(total)} {unit}")

    def stop(self) -> bool:
        """Whether the job should end."""
        return self.channel.stop()


def open_shared(study: Study) -> SharedStudy:
    """The study in PostgreSQL, created where it does not exist."""
    params = study.params
    assert params.storage is not None
    return SharedStudy(study.plan, params.storage, study.name, wait_minutes=params.wait_minutes)


class _Reporter:
    """Reports finished rounds as progress: inner folds trained, of at most trials x folds.

    scored, restored    inner folds with a score; those that the study contained at the start of this process
    best                the highest mean C so far, as text; empty before a trial is complete
    """

    def __init__(self, plan: searching.Plan, progress: Progress | None) -> None:
        self.plan, self.progress = plan, progress
        self.scored, self.best = 0, ""
        self.restored: int | None = None

    def __call__(self, trials: list[Trial]) -> None:
        self.scored = sum(len(t.scores) if t.state == "running" else self.plan.folds for t in trials)
        means = [trial.mean for trial in trials if len(trial.scores) == self.plan.folds]
        self.best = f"best C {max(means):.3f}" if means else ""
        if self.restored is None:
            self.restored = self.scored  # no report: the rate is measured from the first step of training on
        else:
            self._report(self.scored, self.best)

    def round_progress(self, jobs: int) -> Progress:
        """Progress of the `jobs` inner folds that are trained in parallel now, by their steps."""

        def report(done: float, total: float, unit: str, detail: str = "", restored: float = 0, /) -> None:  # noqa: ARG001
            steps = f"this round {int(done)} of {int(total)} {unit}"
            share = min(done / total, 0.999) if total else 0.0  # complete when its scores are stored
            self._report(self.scored + jobs * share, ", ".join(filter(None, (self.best, steps))))

        return report

    def trial_progress(self, done: float, total: float, unit: str, detail: str = "", restored: float = 0, /) -> None:
        """Progress of workers that count trials themselves."""
        if self.progress is not None:
            self.progress(done, total, unit, detail, restored)

    def _report(self, scored: float, detail: str) -> None:
        if self.progress is not None:
            self.progress(scored, self.plan.trials * self.plan.folds, "inner folds", detail, self.restored or 0)


def _work(out: Path) -> Path:
    return out.parent / f".{out.name}.work"


def _nested_work(out: Path) -> Path:
    """The folder of the searches of the outer folds until all have ended."""
    return out.parent / f".{out.name}.nested"


def _sqlite(work: Path) -> str:
    with storage.translating_os_errors(work):
        work.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{work / 'study.db'}"
