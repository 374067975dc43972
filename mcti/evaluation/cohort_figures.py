"""Figures of a run's story: who came in, how training went, how C differs between folds, sites and subtypes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcti.arrays import FloatArray
from mcti.evaluation import figures, subgroups
from mcti.evaluation.comparison import Interval, finite, interval, point
from mcti.evaluation.figures import COLOURS, DASHES, INK, Figure
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.statistics import PairMean

CURVES = {"survival": "survival loss", "subtype": "subtype loss", "instance": "instance loss"}


@dataclass(frozen=True)
class Row:
    """One line of the forest: C among some patients, with the events behind it."""

    name: str
    patients: int
    events: int
    c_index: Interval

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "patients": self.patients, "events": self.events, "c_index": self.c_index.as_dict()}


def forest_rows(
    outcomes: Outcomes, pairs: PairMean, groups: Sequence[Mapping[str, Any]], draws: FloatArray, confidence: float
) -> list[Row]:
    """All patients, each fold, then each subgroup of the table (mcti/evaluation/subgroups.py).

    pairs: C within folds, one block a fold; groups: rows of `subgroups`, with intervals; draws (count, n) stratified.
    A fold with fewer than ten events gets its C without an interval: the resamples hold too few pairs.
    """
    everyone = len(outcomes.patient_ids)
    tested = outcomes.tested_event
    rows = [Row("all", len(tested), int(tested.sum()), interval(pairs, draws, confidence))]
    for k, fold in enumerate(outcomes.folds):
        events = int(fold.event.sum())
        alone = Interval(point(pairs.only(k), everyone), np.nan, np.nan)
        found = interval(pairs.only(k), draws, confidence) if events >= subgroups.MIN_INTERVAL_EVENTS else alone
        rows.append(Row(f"fold {fold.number}", len(fold.patients), events, found))
    for group in groups:
        ends = (np.nan if group["c_index"][key] is None else group["c_index"][key] for key in ("value", "low", "high"))
        rows.append(Row(str(group["name"]), int(group["patients"]), int(group["events"]), Interval(*ends)))
    return rows


def forest(rows: Sequence[Row]) -> Figure:
    """C of MCTI by fold and subgroup with its interval; the size of a mark grows with its events."""
    shown = [row for row in rows if finite(row.c_index.value) is not None]
    with figures._canvas("forest", height=1.2 + 0.3 * len(shown)) as (axes,):
        for place, row in enumerate(shown):
            value, low, high = row.c_index.value, row.c_index.low, row.c_index.high
            colour = COLOURS[0] if place == 0 else COLOURS[1] if row.name.startswith("fold") else COLOURS[2]
            if finite(low) is not None:
                axes.plot([low, high], [place, place], color=colour)
            axes.plot([value], [place], "s", color=colour, markersize=3 + min(7.0, row.events**0.5 / 2))
            said = f"{value:.3f}" if finite(low) is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"
            where = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 9}
            axes.annotate(f"{said}   n={row.patients}, {row.events} events", (1.01, place), **where)
        axes.axvline(0.5, color=INK, linewidth=0.8, linestyle=":")
        axes.axvline(shown[0].c_index.value if shown else 0.5, color=COLOURS[0], linewidth=0.8, linestyle="--")
        axes.set(ylim=(len(shown) - 0.5, -0.5), yticks=range(len(shown)), xlabel="Harrell's C of MCTI")
        axes.set_yticklabels([row.name for row in shown])
        alt = "C of MCTI: " + "; ".join(
            f"{row.name} {row.c_index.value:.3f} ({row.patients} patients, {row.events} events)" for row in shown
        )
        return figures._finish("forest", "C by fold, subtype and site", alt + ".", [axes])


def flow(excluded: Mapping[str, Mapping[str, int]], patients: int, events: int) -> Figure:
    """Who is in the clinical table, who was excluded at which step and why, who was evaluated.

    excluded {step: {reason: patients}} in the order of the steps (`flow.counts`); patients, events: evaluated.
    """
    gone = [
        f"excluded at {step}:\n" + "\n".join(f"{count}: {reason}" for reason, count in reasons.items())
        for step, reasons in excluded.items()
    ] or ["nobody excluded"]
    lines = [text.count("\n") + 1 for text in gone]
    height = 2.6 + 0.22 * sum(lines) + 0.35 * len(lines)
    came = f"{patients + sum(sum(reasons.values()) for reasons in excluded.values())} patients in the clinical table"
    stayed = f"{patients} patients evaluated\n{events} with the event, {patients - events} without"
    with figures._canvas("flow", height=height) as (axes,):
        axes.set(xlim=(0, 10), ylim=(height, 0))
        axes.axis("off")
        box = {"boxstyle": "round,pad=0.5", "facecolor": "none", "edgecolor": INK}
        arrow = {"arrowstyle": "->", "color": INK}
        axes.annotate(came, (2.6, 0.45), ha="center", va="center", bbox=box)
        axes.annotate(stayed, (2.6, height - 0.55), ha="center", va="center", bbox=box)
        axes.annotate("", xy=(2.6, height - 0.95), xytext=(2.6, 0.7), arrowprops=arrow)
        top = 1.05
        for text, count in zip(gone, lines, strict=True):
            middle = top + 0.11 * count
            axes.annotate("", xy=(4.6, middle), xytext=(2.6, middle), arrowprops=arrow)
            axes.annotate(text, (4.85, middle), ha="left", va="center", bbox=box, fontsize=9)
            top += 0.22 * count + 0.35
        told = "; ".join(text.replace(":\n", ": ").replace("\n", ", ") for text in gone)
        alt = f"{came}. {told[0].upper()}{told[1:]}. {stayed.replace(chr(10), ', ')}."
        return figures._finish("flow", "Flow of the patients", alt, [axes])


def learning(history: Mapping[int, Mapping[str, Sequence[float]]]) -> Figure:
    """Training losses by epoch, a line a fold. history {fold: {column of history.csv: values}}."""
    # A loss that is 0 throughout is that of a task that is switched off, such as the subtype of a one-class cohort.
    names = [n for n in CURVES if all(n in c for c in history.values()) and any(any(c[n]) for c in history.values())]
    with figures._canvas("learning", height=1.2 + 1.9 * len(names), rows=[1.0] * len(names)) as panels:
        for panel, name in zip(panels, names, strict=True):
            for i, (fold, curves) in enumerate(sorted(history.items())):
                style = {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i % len(DASHES)]}
                panel.plot(curves["epoch"], curves[name], marker="o", markersize=3, label=f"fold {fold}", **style)
            panel.set(ylabel=CURVES[name])
            panel.xaxis.get_major_locator().set_params(integer=True)  # there is no half epoch
        panels[-1].set_xlabel("epoch")
        panels[0].legend(loc="upper right", fontsize=8, ncols=2)
        first, last = ([curves["survival"][at] for curves in history.values()] for at in (0, -1))
        alt = (
            f"Losses of the training part by epoch, {len(history)} folds. The survival loss goes from "
            f"{np.mean(first):.3f} to {np.mean(last):.3f} in the mean."
        )
        return figures._finish("learning", "Learning curves", alt, panels)


def agreement(outcomes: Outcomes, pairs: PairMean) -> tuple[FloatArray, FloatArray]:
    """How well each patient's risk stands among the others of their folds: share of their pairs in the right order
    (n,), and the number of those pairs; NaN where a patient orders none. Both sides of a pair count."""
    good, all_pairs = np.zeros(len(outcomes.patient_ids)), np.zeros(len(outcomes.patient_ids))
    for block in pairs.blocks:
        right = block.weight * block.score
        np.add.at(good, block.first, right.sum(1))
        np.add.at(good, block.second, right.sum(0))
        np.add.at(all_pairs, block.first, block.weight.sum(1))
        np.add.at(all_pairs, block.second, block.weight.sum(0))
    return np.divide(good, all_pairs, out=np.full(len(good), np.nan), where=all_pairs > 0), all_pairs
