"""Figures of the evaluation report. Each function returns a `Figure` with a text alternative."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mcti.arrays import FloatArray
from mcti.evaluation.risk_groups import RiskGroups
from mcti.figure_canvas import COLOURS, DASHES, INK, Figure, canvas, finish
from mcti.model.names import display


def kaplan_meier(groups: RiskGroups, horizon: float) -> Figure:
    """Kaplan-Meier curve of each risk group with pointwise 95 % intervals; numbers at risk below. horizon in months."""
    ticks = month_ticks(horizon)
    with canvas("kaplan_meier", height=4.8, rows=(5, 0.32 * len(groups.names) + 0.3)) as (axes, table):
        for g, (curve, name) in enumerate(zip(groups.curves, groups.names, strict=True)):
            if curve is None:
                continue
            times, values = _with_start(curve.times, curve.values)
            label = f"{name} risk (n={groups.sizes()[g]})"
            axes.step(times, values, where="post", color=COLOURS[g], linestyle=DASHES[g], label=label)
            low, high = (_with_start(curve.times, edge)[1] for edge in curve.band())
            axes.fill_between(times, low, high, step="post", color=COLOURS[g], alpha=0.15, linewidth=0)
            for tick, at_risk in zip(ticks, curve.number_at_risk(ticks), strict=True):
                table.text(tick, g, str(at_risk), ha="center", va="center", color=COLOURS[g])
        axes.set(xlim=(0, horizon), ylim=(0, 1.02), xticks=ticks, ylabel="share without the event")
        axes.text(0.02, 0.04, f"log-rank p {p_text(groups.p)}", transform=axes.transAxes)
        axes.legend(loc="upper right")
        table.set(xlim=axes.get_xlim(), ylim=(len(groups.names) - 0.5, -0.5), yticks=range(len(groups.names)))
        table.set_yticklabels(groups.names)
        table.set(xticks=[], xlabel="months   (numbers at risk)")
        _hide_frame(table)
        table.tick_params(axis="y", pad=16)  # keeps the labels clear of the first number
        sizes = ", ".join(f"{name} {size}" for name, size in zip(groups.names, groups.sizes(), strict=True))
        alt = f"Kaplan-Meier curves of the risk groups ({sizes} patients); log-rank p {p_text(groups.p)}."
        return finish("kaplan_meier", "Survival by risk group", alt, [axes, table])


def forest(c_by_model: Mapping[str, tuple[float, float, float]], folds: Mapping[str, Sequence[float]]) -> Figure:
    """C of every model with its interval, and the C of each fold as a small stroke. {model: (value, low, high)}."""
    with canvas("c_index", height=1.1 + 0.42 * len(c_by_model)) as (axes,):
        for row, (name, (value, low, high)) in enumerate(c_by_model.items()):
            colour = COLOURS[0] if row == 0 else COLOURS[6]
            known = [c for c in folds[name] if math.isfinite(c)]
            axes.plot(known, [row + 0.22] * len(known), "|", color=colour, markersize=7, alpha=0.8)
            if math.isfinite(low):
                axes.plot([low, high], [row, row], color=colour)
            axes.plot([value], [row], "o" if row == 0 else "s", color=colour)
            numbers = f"{value:.3f} [{low:.3f}, {high:.3f}]"
            axes.annotate(numbers, (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=9)
        axes.axvline(0.5, color=INK, linewidth=0.8, linestyle=":")
        axes.set(ylim=(len(c_by_model) - 0.5, -0.6), yticks=range(len(c_by_model)))
        axes.set_yticklabels([display(name) for name in c_by_model])
        axes.set_xlabel("Harrell's C within folds with its interval; small strokes: single folds")
        alt = "C-index by model: " + "; ".join(
            f"{display(n)} {v[0]:.3f} [{v[1]:.3f}, {v[2]:.3f}]" for n, v in c_by_model.items()
        )
        return finish("c_index", "Ranking: C-index by model and fold", alt + ".", [axes])


def brier(scores: Mapping[str, Sequence[float]], horizons: FloatArray) -> Figure:
    """Brier score of every model at the horizons (h,) in months; lower is better."""
    with canvas("brier") as (axes,):
        for i, (name, values) in enumerate(scores.items()):
            style = {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i % len(DASHES)]}
            width = 2.6 if i == 0 else 1.3
            axes.plot(horizons, values, marker="o", markersize=4, label=display(name), linewidth=width, **style)
        axes.set(xlabel="months", ylabel="Brier score (lower is better)", xticks=list(horizons), ylim=(0, None))
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9)
        last = "; ".join(f"{display(name)} {values[-1]:.3f}" for name, values in scores.items())
        alt = f"Brier score over time. At {horizons[-1]:g} months: {last}."
        return finish("brier", "Prediction error over time", alt, [axes])


def decision_curve(decision: Mapping[str, Any]) -> Figure:
    """Net benefit by threshold: MCTI with its interval, the primary baseline, treating all, treating no patient.

    decision: the section `decision` of metrics.json
    """
    rows, months = decision["rows"], decision["horizon_months"]
    baseline = None if decision["baseline"] is None else display(decision["baseline"])
    columns = {
        key: np.array([math.nan if r[key] is None else r[key] for r in rows]) for key in rows[0] if key != "difference"
    }
    threshold = columns["threshold"]
    with canvas("decision") as (axes,):
        axes.fill_between(threshold, columns["low"], columns["high"], color=COLOURS[0], alpha=0.15, linewidth=0)
        for i, (key, label) in enumerate((("mcti", "MCTI"), ("baseline", baseline), ("all", "treat all"))):
            if label is not None:
                axes.plot(threshold, columns[key], color=COLOURS[i], linestyle=DASHES[i], label=label)
        axes.axhline(0, color=INK, linewidth=0.8, linestyle=":", label="treat none")
        top = float(np.nanmax(columns["high"], initial=0.01))
        axes.set(xlabel=f"threshold: risk of the event by {months:g} months from which to treat", ylabel="net benefit")
        axes.set(ylim=(-0.25 * top, 1.05 * top))
        axes.legend(loc="upper right")
        middle = rows[len(rows) // 2]
        values = [f"MCTI {_or_dash(middle['mcti'])}", f"treating all patients {_or_dash(middle['all'])}"]
        if baseline:
            values.insert(1, f"{baseline} {_or_dash(middle['baseline'])}")
        alt = (
            f"Decision curves at {months:g} months. Net benefit at a threshold of {middle['threshold']:g}: "
            f"{', '.join(values)}."
        )
        return finish("decision", "Decision curves", alt, [axes])


def calibration(points: Mapping[float, Mapping[str, FloatArray]]) -> Figure:
    """Observed by predicted event probability; points {months: {predicted, observed, low, high}}, (g,) each."""
    with canvas("calibration", width=5.2, height=4.6) as (axes,):
        draw_calibration(axes, {f"{months:g} months": p for months, p in points.items()})
        axes.set(xlabel="predicted probability of the event", ylabel="observed (Kaplan-Meier, 95 %)")
        alt = "Calibration by fifths of predicted risk: " + "; ".join(
            f"at {months:g} months predicted {_list(p['predicted'])}, observed {_list(p['observed'])}"
            for months, p in points.items()
        )
        return finish("calibration", "Calibration at the horizons", alt + ".", [axes])


def draw_calibration(axes: Any, points: Mapping[str, Mapping[str, FloatArray]]) -> None:
    """Draw observed by predicted probabilities with their intervals, and the line on which both are equal.

    points  {label: {predicted, observed, low, high}}, (g,) each
    """
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
    top = 0.05
    for i, (label, p) in enumerate(points.items()):
        spread = np.abs(np.stack([p["observed"] - p["low"], p["high"] - p["observed"]]))
        axes.errorbar(
            p["predicted"], p["observed"], yerr=spread, color=COLOURS[i % len(COLOURS)], marker="os^Dv"[i % 5],
            linestyle=DASHES[i % len(DASHES)], capsize=2, linewidth=1.3, label=label,
        )  # fmt: skip
        top = max(top, float(np.nanmax(p["high"], initial=0)), float(np.nanmax(p["predicted"], initial=0)))
    axes.set(xlim=(0, min(1, top * 1.05)), ylim=(0, min(1, top * 1.05)))
    axes.legend(loc="upper left")


def p_text(p: float) -> str:
    """A p-value between 0 and 1 as text: `= 0.013`, `< 0.001`, or `not defined`."""
    if not math.isfinite(p):
        return "not defined"
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def month_ticks(horizon: float, most: int = 8) -> FloatArray:
    """Round months from 0 up to `horizon`, about `most` of them at most."""
    for step in (1, 3, 6, 12, 24, 36, 60):
        if horizon / step < most:
            return np.arange(0, horizon + 1e-9, step, dtype=np.float64)
    return np.arange(0, horizon + 1e-9, 120, dtype=np.float64)


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _list(values: FloatArray) -> str:
    return ", ".join(f"{value:.2f}" if math.isfinite(value) else "–" for value in values)


def _with_start(times: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The curve with its start, 1 at month 0."""
    return np.concatenate([[0.0], times]), np.concatenate([[1.0], values])


def _hide_frame(axes: Any) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
