"""The figure of a search: importance of the settings, history of the scores, settings and score of each trial."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mcti.training.search import Setting, Trial, best

_GREY, _BLUE, _ORANGE = "#8c8c8c", "#0072b2", "#d55e00"  # Okabe and Ito 2008: distinguishable for colour-blind readers


def draw(trials: Sequence[Trial], importances: Mapping[str, float], path: Path) -> None:
    """Importance, history and parallel coordinates into one PNG; the same trials give the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.4))
    _importance(left, importances)
    _history(middle, trials)
    _parallel(right, trials, list(importances))
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _importance(axes: Any, importances: Mapping[str, float]) -> None:
    names = sorted(importances, key=lambda name: importances[name])
    axes.barh(names, [importances[name] for name in names], color=_BLUE)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the score's variance (fANOVA)")
    axes.set_title("Importance" if any(importances.values()) else "Importance: too few complete trials")


def _history(axes: Any, trials: Sequence[Trial]) -> None:
    complete = [trial for trial in trials if trial.state == "complete"]
    pruned = [trial for trial in trials if trial.state == "pruned"]
    axes.plot([t.number for t in complete], [t.mean for t in complete], "o", color=_BLUE, label="complete")
    axes.plot([t.number for t in pruned], [t.mean for t in pruned], "x", color=_GREY, label="pruned")
    leaders = [best(complete[: count + 1]).mean for count in range(len(complete))]
    axes.step([t.number for t in complete], leaders, where="post", color=_ORANGE, label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel("mean C-index of the inner folds")
    axes.set_title("History")
    axes.legend(fontsize=8)


def _parallel(axes: Any, trials: Sequence[Trial], names: Sequence[str]) -> None:
    """Each complete trial is a line over the settings (lowest to highest value tried) that ends at its score."""
    complete = [trial for trial in trials if trial.state == "complete"]
    winner = best(complete)
    columns = [_ranks([trial.settings[name] for trial in complete]) for name in names]
    columns.append(_ranks([trial.mean for trial in complete]))
    for row, trial in enumerate(complete):
        chosen = trial.number == winner.number
        heights = [column[row] for column in columns]
        axes.plot(range(len(columns)), heights, color=_ORANGE if chosen else _GREY, lw=2.5 if chosen else 1)
    axes.set_xticks(range(len(columns)), [*names, "score"], rotation=20, ha="right", fontsize=8)
    axes.set_yticks([0, 1], ["lowest", "highest"])
    axes.set_title("Settings and score (best in orange)")


def _ranks(values: Sequence[Setting]) -> list[float]:
    """Ranks on 0 … 1: settings have log scales or are text, and their order can be drawn on one axis."""
    order = sorted(set(values), key=lambda value: (isinstance(value, str), value))
    return [order.index(value) / max(len(order) - 1, 1) for value in values]
