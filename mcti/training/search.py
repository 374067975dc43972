"""Search of the training settings: Optuna over inner folds, resumable, with the same trials for any number of workers.

Trials run in generations of fixed size and inner folds in rounds: all scores of a round are available before a trial
is pruned. The sampler is seeded by the number of the trial, so neither an interruption nor another machine changes the
sampled settings.
"""

import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mcti.dataset.sampling import seeded_generator
from mcti.errors import DataError, UsageError
from mcti.params.search import fault, is_range

_log = logging.getLogger(__name__)

Setting = float | int | str
Space = Mapping[str, Sequence[Setting]]
Evaluate = Callable[[Sequence[tuple[Mapping[str, Setting], int]]], Sequence[float]]
"""Scores (higher = better, NaN: training diverged) of (settings, inner fold) pairs."""


@dataclass
class Trial:
    """One choice of settings and its scores by inner fold, so far. state: running, complete, pruned or failed."""

    number: int
    settings: dict[str, Setting]
    scores: dict[int, float] = field(default_factory=dict)
    state: str = "running"

    @property
    def mean(self) -> float:
        """Mean score over the scored inner folds, in the unit of the score; NaN without any."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else float("nan")


@dataclass(frozen=True)
class Plan:
    """Search space and limits of a search.

    space     setting -> [low, high] (two numbers, log scale) or choices
    start     settings of the first trial, where they are in the space
    warm_starts  settings of the trials after it
    folds     inner folds
    parallel_trials  trials of a generation;  trials: all of them, pruned ones too;
    timeout_minutes: no new ones after, 0: no limit
    wilcoxon_p_threshold   a trial is pruned when the Wilcoxon test over its folds finds it worse than the best
    """

    space: Space
    start: Mapping[str, Setting]
    folds: int
    parallel_trials: int
    trials: int
    timeout_minutes: float
    wilcoxon_p_threshold: float
    seed: int
    warm_starts: Sequence[Mapping[str, Setting]] = ()


def check_space(space: Space) -> None:
    """Check that each setting of the search space can be sampled.

    Raises UsageError when a setting has fewer than two different values, or a range is not 0 < low < high
    """
    for name, values in space.items():
        if reason := fault(values):
            what, _, hint = reason.partition(": ")
            raise UsageError(f"{list(values)!r} is {what}", f"search.space, {name}", hint)


def optimise(
    plan: Plan, storage: str, study_name: str, evaluate: Evaluate, progress: Callable[[list[Trial]], None]
) -> list[Trial]:
    """Run the missing trials of the study, and return all trials in order.

    storage     Optuna storage URL; study_name: an existing study of this name is resumed, unfinished trials included
    evaluate    scores a whole round at once
    progress    called with all trials before the first round and after each

    Raises DataError when every trial failed
    Raises UsageError when the space has a setting that cannot be drawn
    """
    check_space(plan.space)
    with quiet():
        study = _Study(plan, storage, study_name)
        log_resumed(study.trials(), plan)
        progress(study.trials())
        started = time.monotonic()

        def in_time() -> bool:
            late = plan.timeout_minutes and time.monotonic() - started >= plan.timeout_minutes * 60
            return not late or not study.trials()  # the first generation always runs

        while generation := study.generation(may_start=in_time()):
            for inner in range(plan.folds):
                _round(study, generation, inner, evaluate)
                progress(study.trials())
            for trial in generation:
                study.finish(trial)
        trials = study.trials()
    check_complete(trials)
    return trials


def log_resumed(trials: Sequence[Trial], plan: Plan) -> None:
    """Log the trials that an earlier process has stored in the study."""
    finished = sum(trial.state != "running" for trial in trials)
    if trials:
        begun = f", {len(trials) - finished} begun" if len(trials) > finished else ""
        _log.info("resuming with %d finished trials of %d%s: they are not run again", finished, plan.trials, begun)


def check_complete(trials: Sequence[Trial]) -> None:
    """Check that at least one trial is complete.

    Raises DataError, with the tried learning rates, when no trial could be trained to its end
    """
    if any(trial.state == "complete" for trial in trials):
        return
    rates = sorted({float(t.settings["learning_rate"]) for t in trials if "learning_rate" in t.settings})
    failed = sum(trial.state == "failed" for trial in trials)
    tried = f", learning_rate {', '.join(f'{rate:.3g}' for rate in rates)}" if rates else ""
    key = "the learning_rate of search.space" if rates else "train.learning_rate"
    what = f"no trial could be trained to its end ({failed} of {len(trials)} diverged{tried})"
    raise DataError(what, "the search", f"lower {key}, or check the data")


def best(trials: Sequence[Trial]) -> Trial:
    """The complete trial with the highest mean score, the first of equals; pruned ones never win."""
    complete = [trial for trial in trials if trial.state == "complete"]
    return max(complete, key=lambda trial: (trial.mean, -trial.number))


def importance(trials: Sequence[Trial], space: Space, seed: int) -> dict[str, float]:
    """Share of the score's variance that each setting explains, by fANOVA (Hutter et al. 2014, ICML); sums to 1.

    Zeros where fewer than four trials are complete or all scores are equal: then no share can be estimated.
    """
    complete = [trial for trial in trials if trial.state == "complete"]
    if len(complete) < 4 or len({trial.mean for trial in complete}) < 2:
        return dict.fromkeys(space, 0.0)
    import optuna

    with quiet():
        study = optuna.create_study(direction="maximize")
        for trial in complete:
            frozen = optuna.trial.create_trial(
                params=trial.settings, distributions=_distributions(space), value=trial.mean
            )
            study.add_trial(frozen)
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(shares.get(name, 0.0)) for name in space}


def _round(study: "_Study", generation: Sequence[Trial], inner: int, evaluate: Evaluate) -> None:
    """Score one inner fold of every running trial, without scores that an earlier process has stored."""
    unscored = [trial for trial in generation if trial.state == "running" and inner not in trial.scores]
    scores = evaluate([(trial.settings, inner) for trial in unscored])
    for trial, score in zip(unscored, scores, strict=True):
        study.report(trial, inner, score)
    for trial in unscored:
        study.decide(trial)


class _Study:
    """An Optuna study with the few operations that the search needs."""

    def __init__(self, plan: Plan, storage: str, name: str) -> None:
        import optuna

        self.plan, self.optuna = plan, optuna
        pruner = optuna.pruners.WilcoxonPruner(p_threshold=plan.wilcoxon_p_threshold)
        self.storage = optuna.storages.RDBStorage(storage)
        self.study = optuna.create_study(
            storage=self.storage, study_name=name, direction="maximize", pruner=pruner, load_if_exists=True
        )
        self.study_id = self.storage.get_study_id_from_name(name)
        if not self.study.get_trials(deepcopy=False):
            enqueue_starts(self.study, plan)

    def generation(self, *, may_start: bool) -> list[Trial]:
        """The trials to run next: unfinished ones of an interrupted process, then new ones; empty at the end."""
        states = self.optuna.trial.TrialState
        running = [t.number for t in self.study.get_trials(deepcopy=False) if t.state == states.RUNNING]
        started = len([t for t in self.study.get_trials(deepcopy=False) if t.state != states.WAITING])
        # A generation ends at a multiple of `parallel_trials`, so that a resumed search groups its trials as before.
        while may_start and started < self.plan.trials and (not running or started % self.plan.parallel_trials):
            self._seed(started)
            running.append(self.study.ask().number)
            started += 1
            self._draw(running[-1])
        for number in running:
            self._draw(number)
        return [trial for trial in self.trials() if trial.number in running]

    def report(self, trial: Trial, inner: int, score: float) -> None:
        """Store a score; a NaN ends the trial as failed."""
        if score != score:
            self.study.tell(trial.number, state=self.optuna.trial.TrialState.FAIL)
            trial.state = "failed"
            return
        self._live(trial.number).report(score, inner)
        trial.scores[inner] = score

    def decide(self, trial: Trial) -> None:
        """Prune a trial that is worse than the best of the previous generations; never at its last fold."""
        behind = trial.state == "running" and len(trial.scores) < self.plan.folds
        if behind and self._live(trial.number).should_prune():
            self.study.tell(trial.number, state=self.optuna.trial.TrialState.PRUNED)
            trial.state = "pruned"

    def finish(self, trial: Trial) -> None:
        """Complete a trial whose inner folds are all scored."""
        if trial.state == "running":
            self.study.tell(trial.number, trial.mean)
            trial.state = "complete"

    def trials(self) -> list[Trial]:
        """All started trials, by number."""
        return read_trials(self.study)

    def _draw(self, number: int) -> None:
        """Sample the settings of a trial; stored settings do not change."""
        self._seed(number)
        draw(self._live(number), self.plan.space)

    def _seed(self, number: int) -> None:
        self.study.sampler = sampler(self.plan, number)

    def _live(self, number: int) -> Any:
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number)
        return self.optuna.trial.Trial(self.study, trial_id)


def read_trials(study: Any) -> list[Trial]:
    """All started trials of an Optuna study, by number."""
    states = {"RUNNING": "running", "COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    trials = []
    for frozen in study.get_trials(deepcopy=False):
        if frozen.state.name in states:
            scores = {int(k): float(v) for k, v in sorted(frozen.intermediate_values.items())}
            trials.append(Trial(frozen.number, dict(frozen.params), scores, states[frozen.state.name]))
    return sorted(trials, key=lambda trial: trial.number)


def enqueue_starts(study: Any, plan: Plan) -> None:
    """Enqueue the settings of the first trials in a new study, where they are inside the space."""
    for settings in (plan.start, *plan.warm_starts):
        if _within(settings, plan.space):
            study.enqueue_trial({name: settings[name] for name in plan.space}, skip_if_exists=True)


def sampler(plan: Plan, number: int) -> Any:
    """TPE for the trial of this number; its random choices are a function of seed and number."""
    import optuna

    seed = seeded_generator(plan.seed, "trial", number).initial_seed() % 2**32
    # A quarter of the trials is random: with Optuna's default of ten, all trials of a short search would be random.
    startup = min(10, max(2, plan.trials // 4))
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)


def draw(trial: Any, space: Space) -> None:
    """Sample the settings of a running trial; stored settings do not change."""
    for name, values in space.items():
        _suggest(trial, name, values)


def _distributions(space: Space) -> dict[str, Any]:
    from optuna import distributions as optuna_distributions

    distributions: dict[str, Any] = {}
    for name, values in space.items():
        if not is_range(values):
            distributions[name] = optuna_distributions.CategoricalDistribution(list(values))
        elif all(isinstance(value, int) for value in values):
            distributions[name] = optuna_distributions.IntDistribution(int(values[0]), int(values[1]), log=True)
        else:
            distributions[name] = optuna_distributions.FloatDistribution(float(values[0]), float(values[1]), log=True)
    return distributions


def _suggest(trial: Any, name: str, values: Sequence[Setting]) -> None:
    if not is_range(values):
        trial.suggest_categorical(name, list(values))
    elif all(isinstance(value, int) for value in values):
        trial.suggest_int(name, int(values[0]), int(values[1]), log=True)
    else:
        trial.suggest_float(name, float(values[0]), float(values[1]), log=True)


def _within(start: Mapping[str, Setting], space: Space) -> bool:
    """Whether every setting of the space has a start value inside it."""
    return all(
        name in start and (float(v[0]) <= float(start[name]) <= float(v[1]) if is_range(v) else start[name] in v)
        for name, v in space.items()
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress Optuna's own log lines and its warnings about experimental features."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            # A worker of shared_study.py records the heartbeat in a thread of its own.
            warnings.filterwarnings("ignore", "Heartbeat of storage is supposed to be used with Study.optimize")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
