"""The part of the evaluation report on competing events: figures, tables of numbers and sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mcti.arrays import FloatArray
from mcti.evaluation.competing_predictions import MIN_COVARIATE_EVENTS
from mcti.evaluation.competing_scores import CompetingScores, GroupIncidence
from mcti.evaluation.figures import draw_calibration, month_ticks
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.scores import MCTI_KEY, as_interval
from mcti.evaluation.summary_text import format_interval
from mcti.figure_canvas import COLOURS, INK, Figure, canvas, finish
from mcti.model.names import display

COLUMNS = ("C (competing risks)", "Brier score", "observed / expected", "ICI", "IBS", "skill", "IBS, MCTI minus model")


def cumulative_incidence(groups: Sequence[GroupIncidence], horizon: float) -> Figure:
    """Aalen-Johansen curves of both events by risk group up to `horizon` months; 95 % intervals of the event."""
    with canvas("cumulative_incidence", height=4.2) as (axes,):
        top = 0.05
        for i, group in enumerate(groups):
            colour = COLOURS[i % len(COLOURS)]
            label = f"{group.name} risk (n={group.patients})"
            for curve, dashes, named in ((group.event, "-", label), (group.competing, ":", None)):
                times, values = np.concatenate([[0.0], curve.times]), np.concatenate([[0.0], curve.values])
                axes.step(times, values, where="post", color=colour, linestyle=dashes, label=named)
                top = max(top, float(curve.at(horizon)))
            axes.fill_between(
                group.event.times, group.event.low, group.event.high, step="post", color=colour, alpha=0.15, linewidth=0
            )
            top = max(top, float(np.max(group.event.high[group.event.times <= horizon], initial=0)))
        axes.plot([], [], color=INK, linestyle=":", label="competing event")
        axes.set(xlim=(0, horizon), ylim=(0, min(1.0, 1.05 * top)), xticks=month_ticks(horizon))
        axes.set(xlabel="months", ylabel="cumulative incidence (Aalen-Johansen)")
        axes.legend(loc="upper left")
        listed = "; ".join(
            f"{group.name} risk: event {float(group.event.at(horizon)):.2f}, competing event "
            f"{float(group.competing.at(horizon)):.2f}"
            for group in groups
        )
        alt = f"Cumulative incidence by risk group at {horizon:.4g} months. {listed}."
        return finish("cumulative_incidence", "Cumulative incidence by risk group", alt, [axes])


def calibration(points: Mapping[float, Mapping[str, FloatArray]]) -> Figure:
    """Observed (Aalen-Johansen) by predicted F1; points {months: {predicted, observed, low, high}}, (g,) each."""
    with canvas("incidence_calibration", width=5.2, height=4.6) as (axes,):
        draw_calibration(axes, {f"{months:g} months": p for months, p in points.items()})
        axes.set(xlabel="predicted cumulative incidence", ylabel="observed (Aalen-Johansen, 95 %)")
        alt = "Calibration of the cumulative incidence by fifths: " + "; ".join(
            f"at {months:g} months predicted {_listed(p['predicted'])}, observed {_listed(p['observed'])}"
            for months, p in points.items()
        )
        return finish("incidence_calibration", "Calibration of the cumulative incidence", alt + ".", [axes])


def _listed(values: FloatArray) -> str:
    return ", ".join("unknown" if np.isnan(value) else f"{value:.2f}" for value in values)


def drawn(scores: CompetingScores) -> list[tuple[Figure, str]]:
    """The figures with their captions."""
    return [
        (
            cumulative_incidence(scores.groups, float(scores.horizons[-1])),
            "Risk groups of MCTI, out of fold. Solid: the event; dotted: the competing event.",
        ),
        (
            calibration(scores.calibration),
            "MCTI, out of fold. On the dotted line predicted and observed probability are equal.",
        ),
    ]


def plots(scores: CompetingScores) -> dict[str, pd.DataFrame]:
    """Tables of the figures: cumulative_incidence (group, event, months, incidence, low, high), incidence_calibration
    (months, predicted, observed, low, high)."""
    curves = [
        pd.DataFrame({"group": group.name, "event": status, "months": curve.times, "incidence": curve.values,
                      "low": curve.low, "high": curve.high})
        for group in scores.groups
        for status, curve in (("event", group.event), ("competing", group.competing))
    ]  # fmt: skip
    points = [pd.DataFrame({"months": months, **values}) for months, values in scores.calibration.items()]
    return {"cumulative_incidence": pd.concat(curves, ignore_index=True),
            "incidence_calibration": pd.concat(points, ignore_index=True)}  # fmt: skip


def predictions(outcomes: Outcomes, scores: CompetingScores) -> pd.DataFrame:
    """Table model, patient_id, fold, F_<months>: the cumulative incidence of every model for every test row."""
    names = np.array(outcomes.patient_ids)[outcomes.patient]
    parts = []
    for model, incidence in scores.incidence.items():
        columns = {f"F_{months:g}": incidence[:, k] for k, months in enumerate(scores.horizons)}
        rows = {"model": model, "patient_id": names, "fold": outcomes.fold_number, **columns}
        parts.append(pd.DataFrame(rows).sort_values(["patient_id", "fold"], kind="stable"))
    return pd.concat(parts, ignore_index=True)


def section(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The table of the report; empty without competing events.

    numbers     section `competing` of metrics.json
    """
    if not numbers:
        return {}
    last = f"{numbers['horizons_months'][-1]:g}"
    keys = ["c_competing", *(f"{name}_competing_{last}" for name in ("brier", "oe", "ici"))]
    keys += ["ibs_competing", "ibs_skill_competing"]
    rows = []
    for name, model in numbers["models"].items():
        cells = [format_interval(as_interval(model[key])) for key in keys]
        difference = numbers["comparison"].get(name)
        cells.append("–" if difference is None else format_interval(as_interval(difference["ibs_difference"])))
        rows.append({"name": display(name), "is_mcti": name == MCTI_KEY, "cells": cells})
    return {"columns": COLUMNS, "rows": rows, "last": last, "text": sentences(numbers)}


def sentences(numbers: Mapping[str, Any]) -> str:
    """What the cause-specific numbers of the report mean with competing events."""
    return (
        f"{numbers['competing_events']} patients had a competing event before the event could occur. S(t), "
        "Kaplan-Meier curves, C, Brier score, calibration and decision curves of the other sections are "
        "cause-specific: such a patient counts as censored, and 1 - S(t) is larger than the probability of the event. "
        "That probability is the cumulative incidence of this section."
    )


def methods() -> str:
    """The paragraph on methods."""
    return (
        "Competing events: the cumulative incidence of a model is the sum over time of the probability of being "
        "without either event times the cause-specific hazard of the event. The hazard of the event is that of the "
        "model, constant between the horizons; the hazard of the competing event is a ridge Cox regression on the "
        "clinical columns, fitted in the training part of each fold (without covariates below "
        f"{MIN_COVARIATE_EVENTS} competing events). The observed incidence is that of Aalen and Johansen. Weights for "
        "censoring count only patients without any event as censored. C for competing risks orders the patients by "
        "the cumulative incidence at the last horizon; a patient with a competing event stays comparable at all later "
        "times (Wolbers et al. 2009). Skill: share of the integrated Brier score of the Aalen-Johansen curve of the "
        "training part that the model removes."
    )
