"""Figures that show two models in one drawing: A with full lines, B with dashed ones."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from mcti.arrays import FloatArray
from mcti.evaluation.comparison import Interval
from mcti.evaluation.figures import draw_calibration, month_ticks, p_text
from mcti.evaluation.risk_groups import RiskGroups
from mcti.figure_canvas import COLOURS, INK, Figure, canvas, finish

_DASHES = ("-", "--")
_MARKERS = ("o", "s")


def kaplan_meier(groups: Mapping[str, RiskGroups], horizon: float) -> Figure:
    """Kaplan-Meier curves of the risk groups of both models; groups {A or B: risk groups}, horizon in months."""
    with canvas("kaplan_meier_overlay", height=4.6) as (axes,):
        for dash, (label, formed) in zip(_DASHES, groups.items(), strict=True):
            for g, (curve, name) in enumerate(zip(formed.curves, formed.names, strict=True)):
                if curve is None:
                    continue
                times, values = np.concatenate([[0.0], curve.times]), np.concatenate([[1.0], curve.values])
                text = f"{label}: {name} risk (n={formed.sizes()[g]})"
                axes.step(times, values, where="post", color=COLOURS[g], linestyle=dash, label=text)
        axes.set(xlim=(0, horizon), ylim=(0, 1.02), xticks=month_ticks(horizon))
        axes.set(xlabel="months", ylabel="share without the event")
        axes.legend(loc="best", fontsize=9)
        tests = "; ".join(f"{label}: log-rank p {p_text(formed.p)}" for label, formed in groups.items())
        return finish("kaplan_meier_overlay", "Survival by risk group", f"Kaplan-Meier curves. {tests}.", [axes])


def calibration(points: Mapping[str, Mapping[str, FloatArray]], months: float) -> Figure:
    """Observed by predicted event probability at one horizon; points {A or B: {predicted, observed, low, high}}."""
    with canvas("calibration_overlay", height=4.6) as (axes,):
        axes.set_box_aspect(1)  # in a figure as wide as the others, so that the text of all has one size
        draw_calibration(axes, points)
        axes.set(xlabel="predicted probability of the event", ylabel="observed (Kaplan-Meier, 95 %)")
        alt = f"Predicted and observed probability of the event by {months:g} months, by fifths of predicted risk."
        return finish("calibration_overlay", f"Calibration at {months:g} months", alt, [axes])


def auc(curves: Mapping[str, Sequence[Interval]], horizons: FloatArray) -> Figure:
    """Time-dependent AUC of both models at the horizons (h,) in months; curves {A or B: one interval per horizon}."""
    with canvas("auc_overlay") as (axes,):
        for i, (label, intervals) in enumerate(curves.items()):
            values = np.array([[one.value, one.low, one.high] for one in intervals])
            shifted = horizons + (i - 0.5) * 0.02 * float(horizons[-1])  # else the intervals cover each other
            spread = np.abs(np.stack([values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]))
            axes.errorbar(
                shifted, values[:, 0], yerr=np.nan_to_num(spread), color=COLOURS[i], marker=_MARKERS[i],
                linestyle=_DASHES[i], capsize=2, label=label,
            )  # fmt: skip
        axes.axhline(0.5, color=INK, linewidth=0.8, linestyle=":")
        axes.set(xlabel="months", ylabel="AUC (0.5: chance)", xticks=list(horizons))
        axes.legend(loc="best")
        last = "; ".join(f"{label} {_text(intervals[-1].value)}" for label, intervals in curves.items())
        alt = f"Time-dependent AUC with 95 % intervals. At {horizons[-1]:g} months: {last}."
        return finish("auc_overlay", "Time-dependent AUC", alt, [axes])


def _text(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "not defined"
