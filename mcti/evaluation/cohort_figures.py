"""Figures of the cohort and of the training: patient flow, learning curves, C by fold, subgroup and site."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcti.arrays import FloatArray
from mcti.evaluation import subgroups
from mcti.evaluation.comparison import Interval, finite, interval, point
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.statistics import PairMean
from mcti.figure_canvas import COLOURS, DASHES, INK, Figure, canvas, finish

LOSSES = {"survival": "survival loss", "subtype": "subtype loss", "instance": "instance loss"}
"""Column of history.csv -> label of the axis."""


@dataclass(frozen=True)
class ForestRow:
    """One row of the forest plot: C among some patients, with their number and their events."""

    name: str
    patients: int
    events: int
    c_index: Interval

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "patients": self.patients, "events": self.events, "c_index": self.c_index.as_dict()}


def forest_rows(
    outcomes: Outcomes, pairs: PairMean, groups: Sequence[Mapping[str, Any]], draws: FloatArray
) -> list[ForestRow]:
    """Rows for all patients, each fold, and each subgroup (mcti/evaluation/subgroups.py).

    pairs: C within folds, one block per fold;  groups: rows of `subgroups.table` as dicts;  draws (count, n) stratified
    A fold with few events (`subgroups.MIN_INTERVAL_EVENTS`) has no interval, because its resamples hold too few pairs.
    """
    total = len(outcomes.patient_ids)
    tested = outcomes.tested_event
    rows = [ForestRow("all", len(tested), int(tested.sum()), interval(pairs, draws))]
    for k, fold in enumerate(outcomes.folds):
        events = int(fold.event.sum())
        without_ends = Interval(point(pairs.only(k), total), np.nan, np.nan)
        enough = events >= subgroups.MIN_INTERVAL_EVENTS
        c = interval(pairs.only(k), draws) if enough else without_ends
        rows.append(ForestRow(f"fold {fold.number}", len(fold.patients), events, c))
    for group in groups:
        ends = (np.nan if group["c_index"][key] is None else group["c_index"][key] for key in ("value", "low", "high"))
        rows.append(ForestRow(str(group["name"]), int(group["patients"]), int(group["events"]), Interval(*ends)))
    return rows


def forest(rows: Sequence[ForestRow]) -> Figure:
    """C of MCTI by fold and subgroup with intervals; larger marks have more events."""
    defined = [row for row in rows if finite(row.c_index.value) is not None]
    with canvas("forest", height=1.2 + 0.3 * len(defined)) as (axes,):
        for y, row in enumerate(defined):
            value, low, high = row.c_index.value, row.c_index.low, row.c_index.high
            colour = COLOURS[0] if y == 0 else COLOURS[1] if row.name.startswith("fold") else COLOURS[2]
            if finite(low) is not None:
                axes.plot([low, high], [y, y], color=colour)
            axes.plot([value], [y], "s", color=colour, markersize=3 + min(7.0, row.events**0.5 / 2))
            numbers = f"{value:.3f}" if finite(low) is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"
            label = f"{numbers}   n={row.patients}, {row.events} events"
            axes.annotate(label, (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=9)
        axes.axvline(0.5, color=INK, linewidth=0.8, linestyle=":")
        axes.axvline(defined[0].c_index.value if defined else 0.5, color=COLOURS[0], linewidth=0.8, linestyle="--")
        axes.set(ylim=(len(defined) - 0.5, -0.5), yticks=range(len(defined)), xlabel="Harrell's C of MCTI")
        axes.set_yticklabels([row.name for row in defined])
        alt = "C of MCTI: " + "; ".join(
            f"{row.name} {row.c_index.value:.3f} ({row.patients} patients, {row.events} events)" for row in defined
        )
        return finish("forest", "C by fold and subgroup", alt + ".", [axes])


def flow(excluded: Mapping[str, Mapping[str, int]], patients: int, events: int) -> Figure:
    """Patient flow: the clinical table, exclusions by step and reason, the evaluated patients.

    excluded {step: {reason: patients}} in the order of the steps (`flow.counts`);  patients, events: evaluated.
    """
    exclusions = [
        f"excluded at {step}:\n" + "\n".join(f"{count}: {reason}" for reason, count in reasons.items())
        for step, reasons in excluded.items()
    ] or ["no patient excluded"]
    lines = [text.count("\n") + 1 for text in exclusions]
    height = 2.6 + 0.22 * sum(lines) + 0.35 * len(lines)
    total = f"{patients + sum(sum(reasons.values()) for reasons in excluded.values())} patients in the clinical table"
    evaluated = f"{patients} patients evaluated\n{events} with the event, {patients - events} without"
    with canvas("flow", height=height) as (axes,):
        axes.set(xlim=(0, 10), ylim=(height, 0))
        axes.axis("off")
        box = {"boxstyle": "round,pad=0.5", "facecolor": "none", "edgecolor": INK}
        arrow = {"arrowstyle": "->", "color": INK}
        axes.annotate(total, (2.6, 0.45), ha="center", va="center", bbox=box)
        axes.annotate(evaluated, (2.6, height - 0.55), ha="center", va="center", bbox=box)
        axes.annotate("", xy=(2.6, height - 0.95), xytext=(2.6, 0.7), arrowprops=arrow)
        top = 1.05
        for text, count in zip(exclusions, lines, strict=True):
            middle = top + 0.11 * count
            axes.annotate("", xy=(4.6, middle), xytext=(2.6, middle), arrowprops=arrow)
            axes.annotate(text, (4.85, middle), ha="left", va="center", bbox=box, fontsize=9)
            top += 0.22 * count + 0.35
        sentence = "; ".join(text.replace(":\n", ": ").replace("\n", ", ") for text in exclusions)
        alt = f"{total}. {sentence[0].upper()}{sentence[1:]}. {evaluated.replace(chr(10), ', ')}."
        return finish("flow", "Patient flow", alt, [axes])


def learning(history: Mapping[int, Mapping[str, Sequence[float]]]) -> Figure:
    """Training losses by epoch, one line per fold. history {fold: {column of history.csv: values}}."""
    # A loss that is always 0 belongs to a disabled task, such as the subtype in a cohort of one subtype.
    names = [n for n in LOSSES if all(n in c for c in history.values()) and any(any(c[n]) for c in history.values())]
    with canvas("learning", height=1.2 + 1.9 * len(names), rows=[1.0] * len(names)) as panels:
        for panel, name in zip(panels, names, strict=True):
            for i, (fold, curves) in enumerate(sorted(history.items())):
                style = {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i % len(DASHES)]}
                panel.plot(curves["epoch"], curves[name], marker="o", markersize=3, label=f"fold {fold}", **style)
            panel.set(ylabel=LOSSES[name])
            panel.xaxis.get_major_locator().set_params(integer=True)  # no ticks at half epochs
        panels[-1].set_xlabel("epoch")
        panels[0].legend(loc="upper right", fontsize=8, ncols=2)
        first, last = ([curves["survival"][at] for curves in history.values()] for at in (0, -1))
        alt = (
            f"Losses of the training part by epoch, {len(history)} folds. The mean survival loss changes from "
            f"{np.mean(first):.3f} to {np.mean(last):.3f}."
        )
        return finish("learning", "Learning curves", alt, panels)


def agreement(outcomes: Outcomes, pairs: PairMean) -> tuple[FloatArray, FloatArray]:
    """Share of each patient's pairs that are in the correct order (n,), and the number of these pairs (n,).

    Both patients of a pair count it. The share is NaN for a patient without a pair. 1 best, 0.5 chance.
    """
    correct, total = np.zeros(len(outcomes.patient_ids)), np.zeros(len(outcomes.patient_ids))
    for block in pairs.blocks:
        ordered = block.weight * block.score
        np.add.at(correct, block.first, ordered.sum(1))
        np.add.at(correct, block.second, ordered.sum(0))
        np.add.at(total, block.first, block.weight.sum(1))
        np.add.at(total, block.second, block.weight.sum(0))
    return np.divide(correct, total, out=np.full(len(correct), np.nan), where=total > 0), total
