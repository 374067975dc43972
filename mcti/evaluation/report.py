"""One self-contained page for people: tables, figures, how it was done; no network, light and dark, prints."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from mcti.evaluation import checklist
from mcti.evaluation.checklist import Study
from mcti.evaluation.comparison import Interval
from mcti.evaluation.figures import Figure, p_text
from mcti.evaluation.scores import OURS, Scores, as_interval
from mcti.params import EvaluateParams

FEW_EVENTS = 10


@dataclass(frozen=True)
class CohortFacts:
    """What the head of the page says of the cohort. follow_up: median in months (reverse Kaplan-Meier);
    predictors: in words; attrition: the reason of each patient left out."""

    name: str
    notice: str
    endpoint: str
    patients: int
    events: int
    follow_up: float
    predictors: str
    attrition: Sequence[str] = ()

    @property
    def study(self) -> Study:
        """The same for the checklist."""
        return Study(self.endpoint, self.patients, self.events, len(self.attrition), self.predictors, self.notice)


@dataclass(frozen=True)
class GeneGroups:
    """The gene groups of the model of one fold; rows {group, genes: [(name, weight against an even share)]}."""

    fold: int
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class AboutModels:
    """What the trained models show of themselves; empty where their files are not there.

    history {fold: {column of history.csv: values}};  patients: the best- and worst-predicted with their critical
    patches {patient_id, kind, agreement, months, rank, patches: [{slide_id, x, y, score, crop: {address, missing}}]}.
    """

    history: Mapping[int, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    groups: GeneGroups | None = None
    patients: Sequence[Mapping[str, Any]] = ()


NOTHING = AboutModels()


def render(
    cohort: CohortFacts,
    scores: Scores,
    figures: Sequence[tuple[Figure, str]],
    params: EvaluateParams,
    skipped: Mapping[str, str],
    about: AboutModels = NOTHING,
) -> str:
    """The page. figures: each with its caption; skipped: {baseline: why it was left out}."""
    from jinja2 import Environment, select_autoescape
    from markupsafe import Markup

    source = resources.files("mcti.evaluation").joinpath("report.html").read_text(encoding="utf-8")
    page = Environment(autoescape=select_autoescape(default_for_string=True, default=True)).from_string(source)
    return page.render(
        cohort=cohort,
        lead=_lead(scores, params),
        warnings=_warnings(scores, skipped),
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
        attrition=sorted(Counter(cohort.attrition).items()),
        last=f"{scores.horizons[-1]:g}" if len(scores.horizons) else "",
        level=f"{100 * params.confidence:g}",
        resamples=params.bootstrap,
        methods=_methods(scores, params),
        checklist=checklist.fill(cohort.study, scores, params),
    )


def shown(interval: Interval) -> str:
    """`0.612 [0.541, 0.690]`, or `not defined`."""
    if not math.isfinite(interval.value):
        return "not defined"
    if not math.isfinite(interval.low):
        return f"{interval.value:.3f}"
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _lead(scores: Scores, params: EvaluateParams) -> str:
    """The result in one or two sentences, whichever way it went."""
    ours, rival = scores.c_index(OURS), params.primary_baseline
    if rival not in scores.comparison:
        return f"C-index of MCTI: {shown(ours)}."
    difference = as_interval(scores.comparison[rival]["difference"])
    if not math.isfinite(difference.low):
        verdict = "the difference cannot be judged"
    elif difference.low > 0:
        verdict = "MCTI ranks better"
    elif difference.high < 0:
        verdict = "MCTI ranks worse"
    else:
        verdict = "no difference is shown"
    return (
        f"C-index of MCTI: {shown(ours)}; of {rival}: {shown(scores.c_index(rival))}. "
        f"Difference {shown(difference)}: {verdict}."
    )


def _warnings(scores: Scores, skipped: Mapping[str, str]) -> list[str]:
    events = [fold["events"] for fold in scores.models[OURS]["folds"]]
    said = [f"Baseline {name} was left out: {why}." for name, why in skipped.items()]
    if 0 in events:
        said.append(f"{events.count(0)} test fold(s) have no event and take no part in C.")
    if sum(events) < FEW_EVENTS:
        said.append(f"Only {sum(events)} events: no claim can be made for this cohort.")
    if len(scores.unusable):
        months = ", ".join(f"{t:g}" for t in scores.unusable)
        said.append(f"Months {months} cannot be scored: no event before, or nobody followed beyond.")
    return said


def _columns(scores: Scores) -> list[str]:
    """Heads of the table of models."""
    areas = [f"AUC {months:g} months" for months in scores.horizons]
    return ["C (Harrell)", "C within subtype", "C (Uno)", *areas, *(["IBS", "skill"] if len(scores.horizons) else [])]


def _models(scores: Scores) -> list[dict[str, Any]]:
    metrics = ["c_index", "c_within_subtype", "uno_c", *(f"auc_{months:g}" for months in scores.horizons)]
    metrics += ["ibs", "ibs_skill"] if len(scores.horizons) else []
    return [
        {"name": name, "ours": name == OURS, "cells": [shown(as_interval(numbers[m])) for m in metrics]}
        for name, numbers in scores.models.items()
    ]


def _comparison(scores: Scores) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "primary": entry["primary"],
            "difference": shown(as_interval(entry["difference"])),
            "p": _p_cell(entry["p"]),
            "holm": _p_cell(entry["p_holm"]),
            "corrected": f"{shown(as_interval(folds := entry['fold_corrected']))}, p {p_text(_nan(folds['p']))}",
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
            "name": name,
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
    return [
        {**row, "c": shown(as_interval(row["c_index"])) if row["c_index"]["value"] is not None else "too few events"}
        for row in scores.subgroups
    ]


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
    """How well MCTI tells the subtype, in one sentence; empty where its predictions do not say."""
    ours = scores.models[OURS]
    if "subtype_auroc" not in ours:
        return ""
    area, f1 = (shown(as_interval(ours[name])) for name in ("subtype_auroc", "subtype_macro_f1"))
    return f"Subtype told by MCTI: AUROC {area} (one against the rest, mean over classes), macro-F1 {f1}."


def _caption(figure: Figure, caption: str, scores: Scores) -> str:
    """The alt text, what the figure shows of whom, and for risk groups the months of life between the extremes."""
    said = f"{figure.alt} {caption}".strip()
    gain = scores.risk_groups.get("rmst_months")
    if figure.name != "kaplan_meier" or gain is None or gain["low"] is None:
        return said
    return (
        f"{said} Up to month {gain['horizon_months']:g} the lowest group lives {gain['value']:.1f} "
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
    networks = [name for name in scores.models if name != OURS and name not in params.baselines]
    beside = f" {', '.join(networks)}: trained beforehand on the same training parts." if networks else ""
    return [
        "Every baseline was fitted on the training part of each fold: imputation, scaling, components, penalties "
        f"chosen by inner cross-validation there.{beside} Higher risk means an earlier event.",
        "C counts only pairs of patients of one test fold, since risks of different models are on different scales; "
        "it is the pair-weighted mean of the folds' C. A tied risk counts half; an event and a censoring at one time "
        f"are ordered, two events are not. Uno's C counts events before the {100 * params.uno_tau_quantile:g} % "
        "quantile of the training follow-up, weighed by the training part's censoring.",
        f"Brier score and AUC stand at {horizons} months, weighed by the inverse probability of censoring; the "
        "integrated Brier score is their mean over that span by trapezoids.",
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
