"""The report of a comparison of two models: one self-contained HTML page; light, dark and printed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mcti.evaluation import page
from mcti.evaluation.comparison import CONFIDENCE
from mcti.evaluation.external_report import METRICS
from mcti.evaluation.figures import p_text
from mcti.evaluation.metric_differences import MetricDifference, better
from mcti.evaluation.summary_text import format_interval
from mcti.figure_canvas import Figure


@dataclass(frozen=True)
class ComparisonSummary:
    """What was compared; a, b: as the user named them.

    patients, events  of the common patients;  only_a, only_b  patients whom one model alone predicted
    changed_follow_up  common patients whose follow-up differs between the two
    settings, data    {name: (value of A, value of B)} of everything that differs
    remarks           sentences on what all numbers count, such as competing events as censored
    """

    a: str
    b: str
    endpoint: str
    patients: int
    events: int
    only_a: int
    only_b: int
    changed_follow_up: int
    resamples: int
    settings: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    data: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    notices: Sequence[str] = ()
    remarks: Sequence[str] = ()


def metric_name(key: str) -> str:
    """`AUC at 36 months` for `auc_36`."""
    if key in METRICS:
        return METRICS[key]
    name, _, months = key.rpartition("_")
    return f"{METRICS[name]} at {months} months"


def result_sentence(summary: ComparisonSummary, metrics: Mapping[str, MetricDifference]) -> str:
    """The difference in C in one sentence, whatever its result is."""
    c_index = metrics["c_index"]
    a, b, difference = (format_interval(one) for one in (c_index.a, c_index.b, c_index.difference))
    separated = c_index.difference.low > 0 or c_index.difference.high < 0
    verdict = "the interval excludes 0" if separated else "the interval includes 0: no difference was shown"
    if math.isnan(c_index.difference.low):
        verdict = "the interval is not defined"
    patients = f"the {summary.patients} common patients"
    return f"C-index on {patients}: A {a}, B {b}; B minus A {difference}: {verdict}."


def render(
    summary: ComparisonSummary,
    metrics: Mapping[str, MetricDifference],
    d_calibration: Mapping[str, float | None],
    figures: Sequence[tuple[Figure, str]],
) -> str:
    """The HTML page. figures: each with its caption;  d_calibration: {a, b: p, between 0 and 1}."""
    return page.template("comparison.html").render(
        summary=summary,
        result=result_sentence(summary, metrics),
        level=f"{100 * CONFIDENCE:g}",
        rows=[_row(key, metric) for key, metric in metrics.items()],
        d_calibration={name: _p_cell(float("nan") if p is None else p) for name, p in d_calibration.items()},
        figures=page.inline_figures(figures),
        settings=_differing(summary.settings),
        data=_differing(summary.data),
    )


def _row(key: str, metric: MetricDifference) -> dict[str, str]:
    intervals = {name: format_interval(getattr(metric, name)) for name in ("a", "b", "difference")}
    return {"name": metric_name(key), **intervals, "p": _p_cell(metric.p), "better": better(key)}


def _p_cell(p: float) -> str:
    """A p value (0 to 1) for a cell of a table, whose header names it."""
    return p_text(p).removeprefix("= ")


def _differing(values: Mapping[str, tuple[Any, Any]]) -> list[tuple[str, str, str]]:
    return [(name, _recorded(a), _recorded(b)) for name, (a, b) in values.items()]


def _recorded(value: Any) -> str:
    return "not recorded" if value is None else str(value)
