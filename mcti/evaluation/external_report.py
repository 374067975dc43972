"""The report of an external validation: one self-contained HTML page; light, dark and printed."""

from collections.abc import Mapping, Sequence
from typing import Any

from mcti.evaluation import characteristics, external, external_checklist, page
from mcti.evaluation.comparison import CONFIDENCE, Interval
from mcti.evaluation.external import CaseMixComparison, ExternalSummary
from mcti.evaluation.report import p_cell, subgroup_rows, table_cells
from mcti.evaluation.scores import MCTI_KEY, Scores, as_interval
from mcti.evaluation.summary_text import format_interval
from mcti.evaluation.transportability import Decomposition
from mcti.figure_canvas import Figure
from mcti.model.names import display
from mcti.params import EvaluateParams

METRICS = {
    "c_index": "C (Harrell)",
    "c_within_subtype": "C within subtype",
    "uno_c": "C (Uno)",
    "auc": "AUC",
    "brier": "Brier score",
    "ibs": "Brier score, integrated",
    "ibs_skill": "skill",
    "slope": "calibration slope",
    "intercept": "calibration intercept",
    "oe": "observed / expected events",
    "ici": "ICI",
    "subtype_auroc": "subtype, AUROC",
    "subtype_macro_f1": "subtype, macro-F1",
}
"""Key of metrics.json, without its horizon -> name in the report."""


def render(
    summary: ExternalSummary,
    scores: Scores,
    figures: Sequence[tuple[Figure, str]],
    params: EvaluateParams,
    development: Mapping[str, Any],
    details: Mapping[str, Any],
    *,
    mixture: CaseMixComparison | None,
    decomposition: Decomposition | None,
) -> str:
    """The HTML page. figures: each with its caption;  development: metrics.json of the development, may be empty.

    details  items (what was compared), table_1, warnings, skipped {baseline: reason}
    """
    return page.template("external.html").render(
        summary=summary,
        follow_up=characteristics.months(summary.follow_up),
        level=f"{100 * CONFIDENCE:g}",
        result=result_sentence(summary, scores, development),
        loss=loss_sentences(decomposition),
        mixture_sentence=case_mix_sentence(mixture),
        rows=_performance(scores, development),
        models=_models(scores, development),
        comparison=_comparison(scores),
        subgroups=subgroup_rows(scores),
        mixture=_mixture(mixture),
        transport=_transport(decomposition),
        figures=page.inline_figures(figures),
        table_1=table_cells(details["table_1"]),
        items=[{**item, "item": _variable(item["item"])} for item in details["items"]],
        warnings=details["warnings"],
        methods=methods(scores, params, known=bool(development), recalibration=summary.recalibration),
        checklist=external_checklist.fill(summary, scores, development, details["skipped"]),
    )


def result_sentence(summary: ExternalSummary, scores: Scores, development: Mapping[str, Any]) -> str:
    """C in the validation, and in the development where it is known."""
    sentence = f"C-index of {summary.subject} on {summary.cohort}: {format_interval(scores.c_index(MCTI_KEY))}"
    before = _interval(development, MCTI_KEY, "c_index")
    return f"{sentence}; at its development: {format_interval(before)}." if before else f"{sentence}."


def loss_sentences(decomposition: Decomposition | None) -> str:
    """How the loss of C divides into case mix and the rest; empty where the development is unknown."""
    if decomposition is None:
        return ""
    loss, mixture, other = (
        format_interval(value) for value in (decomposition.loss, decomposition.case_mix, decomposition.other)
    )
    return f"Loss of C from development to validation: {loss}. Explained by the case mix: {mixture}; the rest: {other}."


def case_mix_sentence(mixture: CaseMixComparison | None) -> str:
    """The membership AUC; empty where the case mix of the development is unknown."""
    if mixture is None:
        return ""
    model = mixture.all_variables
    names = ", ".join(map(_variable, model.variables))
    return (
        f"Difference of the case mix: the membership model ({names}) separates the two cohorts "
        f"with AUC {format_interval(model.auc)} (0.5: equal cohorts, 1: disjoint ones)."
    )


def methods(scores: Scores, params: EvaluateParams, *, known: bool, recalibration: str = "") -> list[str]:
    """The methods, one paragraph each; recalibration: how it was fitted, empty for a model that was not changed."""
    horizons = ", ".join(f"{months:g}" for months in scores.horizons)
    fitted = (
        "The baselines were fitted on the training part of each fold of the development; their risks and curves are "
        "the mean over the folds. "
        if known
        else ""
    )
    changed = (
        f"The model was recalibrated: {recalibration}, by Poisson regression on the cumulative hazard of the mean "
        "curve (Crowson et al. 2016). The patients below were not used for it; risks and limits of the groups are "
        "unchanged."
        if recalibration
        else "The model was used as it is: no weight, scale, limit or curve was fitted on this cohort."
    )
    return [
        f"{changed} A higher risk means "
        f"an earlier event. {fitted}A paired difference uses the same resamples for both models.",
        f"Brier score, calibration, decision curves and AUC are given at {horizons} months, weighted by the inverse "
        "probability of censoring. The censoring curve, the follow-up quantile of Uno's C and the Kaplan-Meier curve "
        "of the skill are those of this cohort, since the development stores no follow-up of its patients; the figures "
        "of the development use those of its training parts.",
        "Risk groups: limits are the quantiles of the out-of-fold risks of the development. The log-rank test "
        "describes these groups.",
        "Case mix: the linear predictor is log(-log S(t)) at the last horizon, of one member per patient, chosen by "
        "the hash of the id, since the mean over members spreads less than the out-of-fold predictions of the "
        "development. "
        "The membership model is the linear discriminant of means and covariances; its AUC is corrected for the number "
        "of variables, and its interval inverts the noncentral F distribution (Reiser 2001).",
        "Transportability: the model-based concordance of the linear predictors, scaled by the calibration slope of "
        "the development, is the C that a right model would have (van Klaveren et al. 2016; Gönen and Heller 2005). "
        "Its change is the part of the change of C that the case mix explains.",
        f"Intervals are percentiles over {params.bootstrap} bootstrap resamples of the patients, stratified by event "
        "for rankings, not for absolute risks.",
    ]


def _performance(scores: Scores, development: Mapping[str, Any]) -> list[dict[str, str]]:
    """One row per metric of MCTI: name, validation, development."""
    rows = []
    for key, numbers in scores.models[MCTI_KEY].items():
        if (name := _metric_name(key)) and isinstance(numbers, Mapping):
            before = _interval(development, MCTI_KEY, key)
            cells = {"validation": format_interval(as_interval(numbers))}
            rows.append({"name": name, **cells, "development": format_interval(before) if before else "–"})
    return rows


def _metric_name(key: str) -> str:
    """`calibration slope, 36 months` for `slope_36`; empty for a key that is no metric of the table."""
    stem, _, months = key.rpartition("_")
    if key in METRICS:
        return METRICS[key]
    return f"{METRICS[stem]}, {months} months" if stem in METRICS else ""


def _models(scores: Scores, development: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per model: C and integrated Brier score, in validation and development."""
    keys = ["c_index", *(["ibs"] if len(scores.horizons) else [])]
    rows = []
    for name, numbers in scores.models.items():
        cells = []
        for key in keys:
            before = _interval(development, name, key)
            cells += [format_interval(as_interval(numbers[key])), format_interval(before) if before else "–"]
        rows.append({"name": display(name), "is_mcti": name == MCTI_KEY, "cells": cells})
    return rows


def _comparison(scores: Scores) -> list[dict[str, Any]]:
    """MCTI against each baseline: difference in C and in the integrated Brier score, with p."""
    return [
        {
            "name": display(name),
            "primary": entry["primary"],
            "cells": [
                format_interval(as_interval(entry["difference"])),
                p_cell(entry["p"]),
                p_cell(entry["p_holm"]),
                format_interval(as_interval(entry["ibs_difference"])),
                p_cell(entry["ibs_p"]),
            ],
        }
        for name, entry in scores.comparison.items()
    ]


def _mixture(mixture: CaseMixComparison | None) -> dict[str, Any]:
    """Rows of the table of variables and of the membership models; empty where the development is unknown."""
    if mixture is None:
        return {}
    rows = [
        {
            "name": _variable(row["variable"]),
            "cells": [f"{row[side]['mean']:.4g} ({row[side]['sd']:.3g})" for side in ("development", "validation")]
            + ["–" if row["standardised_difference"] is None else f"{row['standardised_difference']:+.2f}"],
        }
        for row in mixture.rows
    ]
    models = [("linear predictor alone", mixture.linear_predictor), ("all variables", mixture.all_variables)]
    return {
        "rows": rows,
        "models": [{"name": name, "auc": format_interval(model.auc)} for name, model in models],
        "patients": [mixture.development_patients, mixture.validation_patients],
    }


def _variable(name: str) -> str:
    """The name of a variable in the report: that of Table 1."""
    return "female" if name == "is_female" else name


def _transport(decomposition: Decomposition | None) -> list[dict[str, Any]]:
    if decomposition is None:
        return []
    d = decomposition
    rows = [
        ("C (Harrell)", d.development_c, d.validation_c, d.loss),
        ("model-based C: explained by the case mix", d.development_expected, d.validation_expected, d.case_mix),
    ]
    table = [{"name": name, "cells": [format_interval(value) for value in values]} for name, *values in rows]
    return [*table, {"name": "the rest: the model", "cells": ["", "", format_interval(d.other)]}]


def _interval(metrics: Mapping[str, Any], model: str, key: str) -> Interval | None:
    return as_interval(metrics[model][key]) if external.value(metrics, model, key) is not None else None
