"""The record of a search: its result as files, its trials on the tracking server."""

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from mcti import storage
from mcti.evaluation.comparison import Interval, finite, nadeau_bengio
from mcti.params import SearchParams
from mcti.registry import tracking, trials
from mcti.steps.result import StepResult
from mcti.steps.search.study_setup import Study
from mcti.training import search as searching
from mcti.training import search_figure
from mcti.training.search import Setting, Trial


class SearchResult(StepResult):
    """The winning settings and the number of trials behind them; `c_index` is the mean over the inner folds.

    gain  mean difference of the winner and the starting settings over the inner folds, with the ends of its 95 %
          interval (folds overlap: Nadeau and Bengio 2003). Biased upwards, because the same scores select the winner.
    """

    c_index: float
    start_c_index: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    settings: dict[str, Setting]
    trial: int
    trials: int
    pruned: int
    failed: int
    outer_fold: int
    epochs: int


class NestedResult(StepResult):
    """One search per outer fold, inside its training part; tuples in the order of `folds`."""

    folds: tuple[int, ...]
    c_index: tuple[float, ...]
    gain: tuple[float | None, ...]
    trials: int
    failed: int
    settings: dict[str, dict[str, Setting]]
    epochs: int


class TrialLog:
    """Logs each ended trial on the tracking server, below the run of the study; without a server it does nothing."""

    def __init__(self, study: Study, parent: str | None = None) -> None:
        self.logged: set[int] = set()
        if parent is None:
            settings = {"outer_fold": study.params.outer_fold, "epochs": study.params.epochs, "seed": study.params.seed}
            logged = tracking.server_configured()
            parent = trials.open_study(study.params.experiment, study.name, settings) if logged else ""
        self.parent = parent

    def __call__(self, trial: Trial) -> None:
        """Log a trial that has ended and is not logged yet."""
        if self.parent and trial.state != "running" and trial.number not in self.logged:
            mean = trial.mean if trial.state == "complete" else None
            trials.log_trial(self.parent, trial.number, trial.state, trial.settings, trial.scores, mean)
            self.logged.add(trial.number)


def close_log(study: Study, result: SearchResult, out: Path) -> None:
    """Log the result of the study in its run."""
    if tracking.server_configured():
        files = [out / name for name in ("best.yaml", "trials.csv", "importance.png")]
        trials.close_study(TrialLog(study).parent, {"c_index": result.c_index, "trials": result.trials}, files)


def write(out: Path, trials: Sequence[Trial], params: SearchParams, plan: searching.Plan) -> SearchResult:
    """best.yaml, trials.csv, importance.png and result.json: all of them or none."""
    winner = searching.best(trials)
    first = trials[0] if trials[0].state == "complete" and trials[0].settings == dict(plan.start) else None
    gained = gain(winner, first)
    result = SearchResult(
        c_index=winner.mean,
        start_c_index=first.mean if first else None,
        gain=finite(gained.value),
        gain_low=finite(gained.low),
        gain_high=finite(gained.high),
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


def gain(winner: Trial, first: Trial | None) -> Interval:
    """The winner's score minus that of the starting settings, over the inner folds; NaN where these have no scores."""
    shared = [] if first is None else sorted(winner.scores.keys() & first.scores.keys())
    differences = [winner.scores[k] - first.scores[k] for k in shared] if first is not None else []
    if len(differences) < 2:
        return Interval(float("nan"), float("nan"), float("nan"))
    return nadeau_bengio(differences, 1 / (len(differences) - 1)).interval


def write_nested(out: Path, results: Mapping[int, SearchResult], parts: Path) -> NestedResult:
    """best.yaml with the settings of each outer fold, fold_<k>/ of `write`, result.json; all of them or none.

    parts  the folder in which `write` wrote fold_<k>
    """
    result = NestedResult(
        folds=tuple(results),
        c_index=tuple(one.c_index for one in results.values()),
        gain=tuple(one.gain for one in results.values()),
        trials=sum(one.trials for one in results.values()),
        failed=sum(one.failed for one in results.values()),
        settings={str(number): one.settings for number, one in results.items()},
        epochs=next(iter(results.values())).epochs,
    )
    trees = {k: yaml.safe_load((parts / f"fold_{k}" / "best.yaml").read_text(encoding="utf-8")) for k in results}
    head = "# Winning settings of train for each outer fold, inside its training part.\n"
    with storage.replacing(out) as draft:
        draft.mkdir()
        for number in results:
            shutil.copytree(parts / f"fold_{number}", draft / f"fold_{number}")
        (draft / "best.yaml").write_text(
            head + yaml.safe_dump({"nested": trees}, sort_keys=True, allow_unicode=True), encoding="utf-8"
        )
        return result.save(draft)


def _best_yaml(winner: Trial, result: SearchResult) -> str:
    tree = {
        "settings": winner.settings,
        "inner": {
            "c_index": winner.mean,
            "c_index_by_fold": [winner.scores[k] for k in sorted(winner.scores)],
            "epochs": result.epochs,
            "gain": {"value": result.gain, "low": result.gain_low, "high": result.gain_high},
            "outer_fold": result.outer_fold,
            "start_c_index": result.start_c_index,
            "trial": winner.number,
            "trials": result.trials,
        },
    }
    head = "# Winning settings of train on the inner folds, by dotted path, and their score.\n"
    return head + yaml.safe_dump(tree, sort_keys=True, allow_unicode=True)


def _write_trials(path: Path, trials: Sequence[Trial], plan: searching.Plan) -> None:
    """trials.csv: trial, state, c_index (mean of the scored inner folds), one column per inner fold and per setting."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["trial", "state", "c_index", *(f"inner_{k}" for k in range(plan.folds)), *plan.space])
        for trial in trials:
            scores = [trial.scores.get(k, "") for k in range(plan.folds)]
            mean = trial.mean if trial.scores else ""
            writer.writerow([trial.number, trial.state, mean, *scores, *(trial.settings[name] for name in plan.space)])
