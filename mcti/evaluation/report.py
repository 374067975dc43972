"""One self-contained page for people: tables, figures, how it was done; no network, light and dark, prints."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import pandas as pd

from mcti.evaluation import characteristics, checklist, summary_text
from mcti.evaluation.checklist import StudySummary
from mcti.evaluation.figures import Figure, p_text
from mcti.evaluation.scores import OURS, Scores, as_interval
from mcti.evaluation.subgroups import MIN_INTERVAL_EVENTS
from mcti.evaluation.summary_text import shown, warnings
from mcti.model.names import PART_NAMES, PARTS, display
from mcti.params import EvaluateParams


@dataclass(frozen=True)
class CohortSummary:
    """What the page says of the cohort; every count is of the evaluated patients.

    follow_up: median in months (reverse Kaplan-Meier), infinite where it is not reached;  predictors: in words;
    excluded: {step: {reason: patients}} (`flow.counts`);  train_patients, train_events: of each fold's training part.
    """

    name: str
    notice: str
    endpoint: str
    patients: int
    events: int
    follow_up: float
    predictors: str
    excluded: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    train_patients: tuple[int, ...] = ()
    train_events: tuple[int, ...] = ()

    @property
    def study(self) -> StudySummary:
        """The same for the checklist."""
        return StudySummary(
            endpoint=self.endpoint,
            patients=self.patients,
            events=self.events,
            excluded=self.excluded,
            predictors=self.predictors,
            notice=self.notice,
            train_patients=self.train_patients,
            train_events=self.train_events,
        )


@dataclass(frozen=True)
class GeneGroups:
    """The gene groups of the model of one fold; rows {group, genes: [(name, weight against an even share)]}."""

    fold: int
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ModelInsights:
    """What the trained models show of themselves; empty where their files are not there.

    history {fold: {column of history.csv: values}};  patients: the best- and worst-predicted with their critical
    patches {patient_id, kind, agreement, months, rank, patches: [{slide_id, x, y, index, score, crop: {address,
    missing}}]};  table_1: the characteristics of the patients (`characteristics.table`).
    """

    history: Mapping[int, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    groups: GeneGroups | None = None
    patients: Sequence[Mapping[str, Any]] = ()
    table_1: pd.DataFrame = field(default_factory=pd.DataFrame)


NOTHING = ModelInsights()

VERSUS = (
    "model",
    "C, MCTI minus it",
    "p",
    "p (Holm)",
    "C over folds, corrected for overlap",
    "IBS, MCTI minus it",
    "p of IBS",
    "p of IBS (Holm)",
)
"""Heads of the table of comparisons."""


def render(
    cohort: CohortSummary,
    scores: Scores,
    figures: Sequence[tuple[Figure, str]],
    params: EvaluateParams,
    skipped: Mapping[str, str],
    about: ModelInsights = NOTHING,
) -> str:
    """The page. figures: each with its caption; skipped: {baseline: why it was left out}."""
    from jinja2 import Environment, select_autoescape
    from markupsafe import Markup

    source = resources.files("mcti.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    page = Environment(autoescape=select_autoescape(default_for_string=True, default=True)).from_string(source)
    return page.render(
        cohort=cohort,
        follow_up=characteristics.months(cohort.follow_up),
        lead=summary_text.lead(scores, params),
        calibrated=summary_text.calibrated(scores),
        composition=summary_text.composition(scores),
        warnings=warnings(scores, skipped),
        table_1=_table_1(about.table_1),
        versus=VERSUS,
        parts=_parts(scores),
        attributed=scores.attribution.get("patients", 0),
        critical_share=_critical(scores),
        search=summary_text.searched(scores.search),
        columns=_columns(scores),
        models=_models(scores),
        comparison=_comparison(scores),
        figures=[
            # Our own drawing: matplotlib escapes the text in it.
            {"name": f.name, "title": f.title, "svg": Markup(f.inline()), "caption": _caption(f, caption, scores)}  # noqa: S704
            for f, caption in figures
        ],
        calibration=_calibration(scores),
        recalibration=_recalibration(scores),
        subgroups=_subgroups(scores),
        regimes=_regimes(scores),
        subtype=_subtype(scores),
        groups=about.groups,
        patients=about.patients,
        folds=_folds(scores),
        excluded=[(step, reason, n) for step, reasons in cohort.excluded.items() for reason, n in reasons.items()],
        last=f"{scores.horizons[-1]:g}" if len(scores.horizons) else "",
        level=f"{100 * params.confidence:g}",
        resamples=params.bootstrap,
        methods=_methods(scores, params),
        checklist=checklist.fill(cohort.study, scores, params),
    )


def _columns(scores: Scores) -> list[str]:
    """Heads of the table of models."""
    areas = [f"AUC {months:g} months" for months in scores.horizons]
    return ["C (Harrell)", "C within subtype", "C (Uno)", *areas, *(["IBS", "skill"] if len(scores.horizons) else [])]


def _table_1(table: pd.DataFrame) -> dict[str, Any]:
    """Heads and rows; empty without a table."""
    return {"heads": list(table.columns), "rows": table.to_numpy().tolist()} if len(table) else {}


def _parts(scores: Scores) -> list[dict[str, str]]:
    """Share of the attribution of each part of the model; what lies within a part is indented."""
    found = scores.attribution
    if not found:
        return []
    rows = []
    for name, share in found["shares"].items():
        rows.append({"name": PART_NAMES[name], "share": summary_text.percent(share)})
        if name == "network_slides":
            rows += [
                {"name": f"– {PART_NAMES[n]}", "share": summary_text.percent(s)} for n, s in found["details"].items()
            ]
    return rows


def _critical(scores: Scores) -> str:
    """The share of the critical patches, empty where nobody attributed."""
    details = scores.attribution.get("details", {})
    return summary_text.percent(details["critical_patches"]) if details else ""


def _models(scores: Scores) -> list[dict[str, Any]]:
    metrics = ["c_index", "c_within_subtype", "uno_c", *(f"auc_{months:g}" for months in scores.horizons)]
    metrics += ["ibs", "ibs_skill"] if len(scores.horizons) else []
    return [
        {"name": display(name), "ours": name == OURS, "cells": [shown(as_interval(numbers[m])) for m in metrics]}
        for name, numbers in scores.models.items()
    ]


def _comparison(scores: Scores) -> list[dict[str, Any]]:
    return [
        {
            "name": display(name),
            "primary": entry["primary"],
            "difference": shown(as_interval(entry["difference"])),
            "p": _p_cell(entry["p"]),
            "holm": "–" if name in PARTS else _p_cell(entry["p_holm"]),
            "corrected": f"{shown(as_interval(folds := entry['fold_corrected']))}, p {p_text(_nan(folds['p']))}",
            "ibs": shown(as_interval(entry["ibs_difference"])),
            "ibs_p": _p_cell(entry["ibs_p"]),
            "ibs_holm": "–" if name in PARTS else _p_cell(entry["ibs_p_holm"]),
        }
        for name, entry in scores.comparison.items()
    ]


def _calibration(scores: Scores) -> list[dict[str, Any]]:
    """One row a model: slope, intercept and ICI at the last horizon, p of D-calibration."""
    if not len(scores.horizons):
        return []
    last = f"{scores.horizons[-1]:g}"
    return [
        {
            "name": display(name),
            "ours": name == OURS,
            "cells": [shown(as_interval(numbers[f"{metric}_{last}"])) for metric in ("slope", "intercept", "ici")],
            "p": _p_cell(numbers["d_calibration"]["p"]),
        }
        for name, numbers in scores.models.items()
    ]


def _recalibration(scores: Scores) -> list[dict[str, Any]]:
    """Two rows, before and after; empty where the curves are as the networks gave them."""
    if not scores.recalibration:
        return []
    last = f"{scores.horizons[-1]:g}"
    names = [f"slope_{last}", f"intercept_{last}", f"ici_{last}", "ibs"]
    return [
        {
            "name": side,
            "cells": [shown(as_interval(numbers[name])) for name in names],
            "p": _p_cell(numbers["d_calibration"]["p"]),
        }
        for side, numbers in scores.recalibration.items()
    ]


def _subgroups(scores: Scores) -> list[dict[str, Any]]:
    """One row a subgroup; a C of few events is marked, and has no interval."""
    rows = []
    for row in scores.subgroups:
        few = row["events"] < MIN_INTERVAL_EVENTS and row["c_index"]["value"] is not None
        rows.append({**row, "c": shown(as_interval(row["c_index"])) + (" (few events)" if few else "")})
    return rows


def _regimes(scores: Scores) -> list[dict[str, Any]]:
    return [
        {
            "name": name.replace("_", " "),
            **{key: numbers[key] for key in ("patients", "events")},
            "cells": [
                shown(as_interval(numbers[key])) if key in numbers else "–" for key in ("c_index", "uno_c", "ibs")
            ],
        }
        for name, numbers in scores.regimes.items()
    ]


def _subtype(scores: Scores) -> str:
    """How well MCTI tells the subtype, in one sentence; empty for one class, or where its predictions do not say."""
    ours = scores.models[OURS]
    if ours.get("subtype_auroc", {}).get("value") is None:
        return ""
    area, f1 = (shown(as_interval(ours[name])) for name in ("subtype_auroc", "subtype_macro_f1"))
    return f"Subtype told by MCTI: AUROC {area} (one against the rest, mean over classes), macro-F1 {f1}."


def _caption(figure: Figure, caption: str, scores: Scores) -> str:
    """The alt text, what the figure shows of whom, and for risk groups the months of life between the extremes."""
    said = f"{figure.alt} {caption}".strip()
    gain = scores.risk_groups.get("rmst_months")
    if figure.name != "kaplan_meier" or gain is None or gain["low"] is None:
        return said
    asked, horizon = gain["asked_months"], gain["horizon_months"]
    cut = f", the last follow-up of the shorter group (asked: {asked:g})" if horizon < asked else ""
    return (
        f"{said} Up to month {horizon:.4g}{cut} the lowest group lives {gain['value']:.1f} "
        f"[{gain['low']:.1f}, {gain['high']:.1f}] months longer without the event than the highest (restricted mean)."
    )


def _folds(scores: Scores) -> list[dict[str, Any]]:
    """One row a fold; a C that is not defined shows as a dash."""
    rows = []
    for k, fold in enumerate(scores.models[OURS]["folds"]):
        values = [numbers["folds"][k]["c_index"] for numbers in scores.models.values()]
        rows.append({**fold, "c": ["–" if c is None else f"{c:.3f}" for c in values]})
    return rows


def _methods(scores: Scores, params: EvaluateParams) -> list[str]:
    horizons = ", ".join(f"{months:g}" for months in scores.horizons)
    networks = [name for name in scores.models if name not in (OURS, *PARTS, *params.baselines)]
    beside = f" {', '.join(networks)}: trained beforehand on the same training parts." if networks else ""
    return [
        "Every baseline was fitted on the training part of each fold: imputation, scaling, components, penalties "
        f"chosen by inner cross-validation there.{beside} Higher risk means an earlier event.",
        "C counts only pairs of patients of one test fold, since risks of different models are on different scales; "
        "it is the pair-weighted mean of the folds' C. A tied risk counts half; an event and a censoring at one time "
        f"are ordered, two events are not. Uno's C counts events before the {100 * params.uno_tau_quantile:g} % "
        "quantile of the training follow-up, weighed by the training part's censoring.",
        f"Brier score, calibration, decision curves and AUC stand at {horizons} months, weighed by the inverse "
        "probability of censoring of the training part: an event at T by 1/G just before T, a patient still under "
        "observation at t by 1/G(t). The integrated Brier score is the mean over that span by trapezoids.",
        "Risk groups: limits for a fold are quantiles of the out-of-fold risks of its training patients, standardised "
        "within fold. The log-rank p describes these groups; it is not a test of the model against another.",
        "Intervals are percentiles over resampled patients: stratified by event for rankings, not for absolute risks, "
        "where the number of events is part of what is uncertain. They speak of these fitted models on patients like "
        "these. The spread between training sets shows "
        "in the fold-corrected column.",
    ]


def _p_cell(p: float | None) -> str:
    """`0.013`, `< 0.001`, or `not defined`: in a column whose head says p."""
    return p_text(_nan(p)).removeprefix("= ")


def _nan(value: float | None) -> float:
    return math.nan if value is None else value
