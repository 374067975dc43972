"""The evaluation report: one self-contained HTML page with tables, figures and methods; light, dark and printed."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mcti.evaluation import characteristics, comparison, competing_report, metrics, page, summary_text, tripod_checklist
from mcti.evaluation.figures import p_text
from mcti.evaluation.scores import MCTI_KEY, Scores, as_interval
from mcti.evaluation.subgroups import MIN_INTERVAL_EVENTS
from mcti.evaluation.summary_text import format_interval
from mcti.evaluation.tripod_checklist import StudySummary
from mcti.figure_canvas import Figure
from mcti.model.names import PART_NAMES, PARTS, display
from mcti.params import EvaluateParams


@dataclass(frozen=True)
class CohortSummary:
    """The cohort as the report describes it; every count is of the evaluated patients.

    follow_up    median in months by the reverse Kaplan-Meier method, infinite where it is not reached
    predictors   in words;  excluded {step: {reason: patients}} (`flow.counts`)
    competing_events   patients with a competing event, 0 without any
    train_patients, train_events   of the training part of each fold
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
    competing_events: int = 0

    @property
    def study(self) -> StudySummary:
        """The same for the TRIPOD+AI checklist."""
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
    """The gene groups of the model of one fold; rows {group, genes: [(name, weight relative to equal weights)]}."""

    fold: int
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class ModelInsights:
    """Details of the trained models; a part is empty where its files do not exist.

    history   {fold: {column of history.csv: values}}
    patients  the best- and worst-predicted patients with their critical patches: {patient_id, selection (best | worst),
              agreement, months, rank, patches: [{slide_id, x, y, index, score, crop: {address, missing}}]}
    table_1   characteristics of the patients (`characteristics.table`)
    embeddings    whether the features are embeddings of slides or patients, which have no patches
    """

    history: Mapping[int, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    groups: GeneGroups | None = None
    patients: Sequence[Mapping[str, Any]] = ()
    table_1: pd.DataFrame = field(default_factory=pd.DataFrame)
    embeddings: bool = False


NO_INSIGHTS = ModelInsights()

COMPARISON_COLUMNS = (
    "model",
    "C, MCTI minus model",
    "p",
    "p (Holm)",
    "C over folds, corrected for overlap",
    "IBS, MCTI minus model",
    "p of IBS",
    "p of IBS (Holm)",
)
REGIMES = {"both": "slides and genes", "slides_only": "slides only", "genes_only": "genes only"}
"""Key of metrics.json -> name in the report."""


def render(
    cohort: CohortSummary,
    scores: Scores,
    figures: Sequence[tuple[Figure, str]],
    params: EvaluateParams,
    skipped: Mapping[str, str],
    insights: ModelInsights = NO_INSIGHTS,
) -> str:
    """The HTML page. figures: each with its caption;  skipped {baseline: reason}."""
    return page.template("report.html").render(
        cohort=cohort,
        level=f"{100 * comparison.CONFIDENCE:g}",
        resamples=params.bootstrap,
        last=f"{scores.horizons[-1]:g}" if len(scores.horizons) else "",
        warnings=summary_text.warnings(scores, skipped),
        table_1=table_cells(insights.table_1),
        groups=insights.groups,
        patients=insights.patients,
        missing_images=_missing_images(insights.patients),
        embeddings=insights.embeddings,
        excluded=[(step, reason, n) for step, reasons in cohort.excluded.items() for reason, n in reasons.items()],
        methods=_methods(scores, params),
        checklist=tripod_checklist.fill(cohort.study, scores, params),
        **_header(cohort, scores, params),
        **_tables(scores),
        competing=competing_report.section(scores.competing),
        **_figures(figures, scores),
    )


def _header(cohort: CohortSummary, scores: Scores, params: EvaluateParams) -> dict[str, Any]:
    return {
        "follow_up": characteristics.months(cohort.follow_up),
        "result": summary_text.result_sentences(scores, params),
        "calibration_text": summary_text.calibration_sentences(scores),
        "composition": summary_text.composition_sentences(scores),
    }


def _tables(scores: Scores) -> dict[str, Any]:
    return {
        "columns": _columns(scores),
        "models": _models(scores),
        "comparison_columns": COMPARISON_COLUMNS,
        "comparison": _comparison(scores),
        "parts": _parts(scores),
        "attributed": scores.attribution.get("patients", 0),
        "critical_share": _critical_share(scores),
        "search": summary_text.search_sentences(scores.search),
        "calibration": _calibration(scores),
        "recalibration": _recalibration(scores),
        "subgroups": subgroup_rows(scores),
        "regimes": _regimes(scores),
        "subtype": _subtype(scores),
        "folds": _folds(scores),
    }


def _figures(figures: Sequence[tuple[Figure, str]], scores: Scores) -> dict[str, Any]:
    from markupsafe import Markup

    return {
        "figures": [
            # Our own figure: matplotlib escapes the text in it.
            {"name": f.name, "title": f.title, "svg": Markup(f.inline()), "caption": _caption(f, caption, scores)}  # noqa: S704
            for f, caption in figures
        ]
    }


def _columns(scores: Scores) -> list[str]:
    """Column names of the table of models, without the name of the model."""
    areas = [f"AUC {months:g} months" for months in scores.horizons]
    return ["C (Harrell)", "C within subtype", "C (Uno)", *areas, *(["IBS", "skill"] if len(scores.horizons) else [])]


def table_cells(table: pd.DataFrame) -> dict[str, Any]:
    """Column names and rows; empty without a table."""
    return {"heads": list(table.columns), "rows": table.to_numpy().tolist()} if len(table) else {}


def _parts(scores: Scores) -> list[dict[str, str]]:
    """Share of the attribution of each part of the model; the details of a part are indented."""
    if not scores.attribution:
        return []
    rows = []
    for name, share in scores.attribution["shares"].items():
        rows.append({"name": PART_NAMES[name], "share": summary_text.percent(share)})
        if name == "network_slides":
            details = scores.attribution["details"].items()
            rows += [{"name": f"– {PART_NAMES[n]}", "share": summary_text.percent(s)} for n, s in details]
    return rows


def _missing_images(patients: Sequence[Mapping[str, Any]]) -> str:
    """How many of the listed critical patches have no image, by reason; empty where each one has."""
    crops = [patch.get("crop") for row in patients for patch in row["patches"]]
    reasons = Counter(
        "no list of slides" if crop is None else crop.missing for crop in crops if crop is None or not crop.address
    )
    listed = ", ".join(f"{reason} ({count})" for reason, count in sorted(reasons.items()))
    return f"{reasons.total()} of {len(crops)} critical patches have no image: {listed}." if reasons else ""


def _critical_share(scores: Scores) -> str:
    """The share of the critical patches; empty without an attribution."""
    details = scores.attribution.get("details", {})
    return summary_text.percent(details["critical_patches"]) if details else ""


def _models(scores: Scores) -> list[dict[str, Any]]:
    keys = ["c_index", "c_within_subtype", "uno_c", *(f"auc_{months:g}" for months in scores.horizons)]
    keys += ["ibs", "ibs_skill"] if len(scores.horizons) else []
    return [_row(name, numbers, keys) for name, numbers in scores.models.items()]


def _row(name: str, numbers: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Display name of the model and the intervals of these keys of metrics.json as text."""
    cells = [format_interval(as_interval(numbers[key])) for key in keys]
    return {"name": display(name), "is_mcti": name == MCTI_KEY, "cells": cells}


def _comparison(scores: Scores) -> list[dict[str, Any]]:
    return [
        {
            "name": display(name),
            "primary": entry["primary"],
            "cells": [
                format_interval(as_interval(entry["difference"])),
                p_cell(entry["p"]),
                "–" if name in PARTS else p_cell(entry["p_holm"]),
                f"{format_interval(as_interval(folds := entry['fold_corrected']))}, p {p_text(_nan(folds['p']))}",
                format_interval(as_interval(entry["ibs_difference"])),
                p_cell(entry["ibs_p"]),
                "–" if name in PARTS else p_cell(entry["ibs_p_holm"]),
            ],
        }
        for name, entry in scores.comparison.items()
    ]


def _calibration(scores: Scores) -> list[dict[str, Any]]:
    """One row per model: slope, intercept and ICI at the last horizon, p of D-calibration."""
    if not len(scores.horizons):
        return []
    keys = [f"{metric}_{scores.horizons[-1]:g}" for metric in ("slope", "intercept", "ici")]
    return [
        {**_row(name, numbers, keys), "p": p_cell(numbers["d_calibration"]["p"])}
        for name, numbers in scores.models.items()
    ]


def _recalibration(scores: Scores) -> list[dict[str, Any]]:
    """Two rows, before and after; empty without recalibration."""
    if not scores.recalibration:
        return []
    last = f"{scores.horizons[-1]:g}"
    keys = [f"slope_{last}", f"intercept_{last}", f"ici_{last}", "ibs"]
    return [
        {**_row(name, numbers, keys), "p": p_cell(numbers["d_calibration"]["p"])}
        for name, numbers in scores.recalibration.items()
    ]


def subgroup_rows(scores: Scores) -> list[dict[str, Any]]:
    """One row per subgroup; a C of few events is marked and has no interval."""
    rows = []
    for row in scores.subgroups:
        few = row["events"] < MIN_INTERVAL_EVENTS and row["c_index"]["value"] is not None
        rows.append({**row, "c": format_interval(as_interval(row["c_index"])) + (" (few events)" if few else "")})
    return rows


def _regimes(scores: Scores) -> list[dict[str, Any]]:
    return [
        {
            "name": REGIMES.get(name, name),
            **{key: numbers[key] for key in ("patients", "events")},
            "cells": [
                format_interval(as_interval(numbers[key])) if key in numbers else "–"
                for key in ("c_index", "uno_c", "ibs")
            ],
        }
        for name, numbers in scores.regimes.items()
    ]


def _subtype(scores: Scores) -> str:
    """How well MCTI predicts the subtype, in one sentence; empty for one class or without subtype predictions."""
    numbers = scores.models[MCTI_KEY]
    if numbers.get("subtype_auroc", {}).get("value") is None:
        return ""
    area, f1 = (format_interval(as_interval(numbers[name])) for name in ("subtype_auroc", "subtype_macro_f1"))
    return (
        f"Subtype predicted by MCTI: AUROC {area} (area under the ROC curve, one subtype against the rest, mean over "
        f"subtypes; 0.5 is chance), macro-F1 {f1} (balance of precision and recall, mean over subtypes; 1 is best)."
    )


def _caption(figure: Figure, caption: str, scores: Scores) -> str:
    """Text alternative and caption; for the risk groups also the difference in event-free months."""
    text = f"{figure.alt} {caption}".strip()
    gain = scores.risk_groups.get("rmst_months")
    if figure.name != "kaplan_meier" or gain is None or gain["low"] is None:
        return text
    requested, horizon = gain["asked_months"], gain["horizon_months"]
    cut = f", the last follow-up of the shorter group (requested: {requested:g})" if horizon < requested else ""
    return (
        f"{text} Up to month {horizon:.4g}{cut} patients of the lowest group have on average {gain['value']:.1f} "
        f"[{gain['low']:.1f}, {gain['high']:.1f}] more event-free months than patients of the highest group "
        "(difference of the restricted mean survival times, the areas under the curves up to that month)."
    )


def _folds(scores: Scores) -> list[dict[str, Any]]:
    """One row per fold; a dash for a C that is not defined."""
    rows = []
    for k, fold in enumerate(scores.models[MCTI_KEY]["folds"]):
        values = [numbers["folds"][k]["c_index"] for numbers in scores.models.values()]
        rows.append({**fold, "c": ["–" if c is None else f"{c:.3f}" for c in values]})
    return rows


def _methods(scores: Scores, params: EvaluateParams) -> list[str]:
    """The methods, one paragraph each."""
    horizons = ", ".join(f"{months:g}" for months in scores.horizons)
    networks = [display(n) for n in scores.models if n not in (MCTI_KEY, *PARTS, *params.baselines)]
    trained = f" {', '.join(networks)}: trained beforehand on the same training parts." if networks else ""
    return [
        "Every baseline was fitted on the training part of each fold: imputation, scaling, principal components, and "
        f"penalties chosen by inner cross-validation there.{trained} A higher risk means an earlier event.",
        "C compares only pairs of patients of one test fold, because the risks of different models are on different "
        "scales; it is the pair-weighted mean of the C of each fold. A tied risk counts as half. At equal times an "
        "event precedes a censoring; two events are not ordered. Uno's C counts events before the "
        f"{100 * metrics.UNO_TAU_QUANTILE:g} % quantile of the training follow-up, weighted by the censoring curve of "
        "the training part, and does not depend on how many patients were censored.",
        f"Brier score, calibration, decision curves and AUC are given at {horizons} months. They are weighted by the "
        "inverse probability of censoring (IPCW): patients with a known status represent those who were censored "
        "before the horizon. An event at time T has the weight 1/G just before T, a patient under observation at t the "
        "weight 1/G(t), with the censoring curve G of the training part. The integrated Brier score is the mean over "
        "the horizons by the trapezoidal rule.",
        "Risk groups: the limits for a fold are quantiles of the out-of-fold risks of its training patients, "
        "standardised within fold. The log-rank test (whether the survival of the groups differs) describes these "
        "groups; it does not compare models.",
        "Intervals are percentiles over bootstrap resamples: the patients are drawn again with replacement, stratified "
        "by event for rankings, not for absolute risks, where the number of events is part of the uncertainty. They "
        "describe these fitted models on patients like these. The variation between training sets is included in the "
        "fold-corrected column.",
        *([competing_report.methods()] if scores.competing else []),
    ]


def p_cell(p: float | None) -> str:
    """`0.013`, `< 0.001`, or `not defined`, for a column whose name is p."""
    return p_text(_nan(p)).removeprefix("= ")


def _nan(value: float | None) -> float:
    return math.nan if value is None else value
