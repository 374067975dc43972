"""External validation: the numbers of a new cohort with those of the development (docs/external-validation.md)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mcti.arrays import IntArray
from mcti.evaluation import case_mix
from mcti.evaluation.case_mix import LINEAR_PREDICTOR, CaseMix, Membership
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.risk_groups import NAMES, RiskGroups, curves_of, log_rank
from mcti.evaluation.scores import MCTI_KEY, Scores
from mcti.evaluation.summary_text import MIN_CLAIM_EVENTS, SLOPE_LIMITS, competing_sentence, late_entry_sentence
from mcti.evaluation.transportability import Decomposition
from mcti.model.names import display

ENDS = ("value", "low", "high")
TIME_RATIO = 4.0
"""Ratio of the median times, either way, from which the unit is in doubt: weeks, days or years in place of months."""


@dataclass(frozen=True)
class ExternalSummary:
    """The cohort and the model as the report describes them; every count is of the scored patients.

    development  name of the development cohort, empty: not recorded
    follow_up    median in months by the reverse Kaplan-Meier method, infinite where it is not reached
    excluded     {reason: patients} who could not be predicted;  excluded_at_ingest  records of the source tables
    slides       whether slide features were passed
    recalibration  how the survival curves were recalibrated, one line; empty: they were not
    subtypes_left_out  why the predicted subtypes are not scored; empty: they are, or the model predicts none
    time_ratio   median time_months divided by that of the development; NaN: unknown
    competing_events  patients with a competing event
    entry_difference  which of both cohorts has no late entry while the other has; empty: both or neither
    """

    model: str
    version: str
    cohort: str
    notice: str
    endpoint: str
    development: str
    patients: int
    events: int
    follow_up: float
    excluded: Mapping[str, int] = field(default_factory=dict)
    excluded_at_ingest: int = 0
    out_of_distribution: int = 0
    predictors: str = ""
    slides: bool = True
    recalibration: str = ""
    subtypes_left_out: str = ""
    time_ratio: float = math.nan
    competing_events: int = 0
    entry_difference: str = ""

    @property
    def subject(self) -> str:
        """`lung-os version 3`, or the name of the folder."""
        return f"{self.model} version {self.version}" if self.version else self.model


@dataclass(frozen=True)
class CaseMixComparison:
    """The case mix of two cohorts: membership models, and one row per variable (`case_mix.differences`)."""

    linear_predictor: Membership
    all_variables: Membership
    rows: list[dict[str, Any]]
    development_patients: int
    validation_patients: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "patients": {"development": self.development_patients, "validation": self.validation_patients},
            "membership": {
                name: {"variables": list(model.variables), "auc": model.auc.as_dict()}
                for name, model in (
                    ("linear_predictor", self.linear_predictor),
                    ("all_variables", self.all_variables),
                )
            },
            "variables": self.rows,
        }


def compare_case_mix(development: CaseMix | None, validation: CaseMix) -> CaseMixComparison | None:
    """Both membership models of p variables.

    None where the development is unknown or has its linear predictor at another horizon.
    """
    if development is None or development.months != validation.months:
        return None
    models = [
        case_mix.membership(development, validation, names)
        for names in ([LINEAR_PREDICTOR], case_mix.common(development, validation))
    ]
    rows = case_mix.differences(development, validation)
    return CaseMixComparison(models[0], models[1], rows, development.patients, validation.patients)


def risk_groups_of(outcomes: Outcomes, group: IntArray, groups: int) -> RiskGroups:
    """Given risk groups (m,), 0 = lowest, with their Kaplan-Meier curves and the log-rank test."""
    curves = curves_of(outcomes, group, groups)
    return RiskGroups(group, NAMES[groups], curves, log_rank(outcomes, group))


def value(metrics: Mapping[str, Any], model: str, key: str) -> float | None:
    """The value of a metric of metrics.json, in its unit; None where it is absent or not defined."""
    number = metrics.get(model, {}).get(key)
    return number["value"] if isinstance(number, Mapping) else None


def compared(scores: Scores, development: Mapping[str, Any]) -> pd.DataFrame:
    """Table model, metric, validation and development with intervals, difference (validation - development), no unit.

    development  metrics.json of the development, empty where it is unknown
    """
    rows = []
    for model, numbers in scores.models.items():
        for metric, interval in numbers.items():
            if not _is_interval(interval):
                continue
            before = development.get(model, {}).get(metric) or dict.fromkeys(ENDS)
            row: dict[str, Any] = {"model": model, "metric": metric}
            row |= {f"validation_{end}": interval[end] for end in ENDS}
            row |= {f"development_{end}": before[end] for end in ENDS}
            both = interval["value"] is not None and before["value"] is not None
            rows.append(row | {"difference": interval["value"] - before["value"] if both else None})
    return pd.DataFrame(rows)


def document(
    summary: ExternalSummary,
    items: Sequence[Mapping[str, str]],
    mixture: CaseMixComparison | None,
    decomposition: Decomposition | None,
    development: Mapping[str, Any],
    skipped: Mapping[str, str],
) -> dict[str, Any]:
    """The content of external.json; null where the evaluation of the development is unknown."""
    figures = {model: numbers for model, numbers in development.items() if isinstance(numbers, Mapping)}
    return {
        "model": summary.model,
        "version": summary.version,
        "cohort": summary.cohort,
        "development_cohort": summary.development,
        "patients": summary.patients,
        "events": summary.events,
        "excluded": dict(summary.excluded),
        "out_of_distribution": summary.out_of_distribution,
        "compared": [dict(item) for item in items],
        "development": {
            model: {key: number for key, number in numbers.items() if _is_interval(number)}
            for model, numbers in figures.items()
        },
        "skipped_baselines": dict(skipped),
        "case_mix": None if mixture is None else mixture.as_dict(),
        "transportability": None if decomposition is None else decomposition.as_dict(),
    }


def _is_interval(number: object) -> bool:
    return isinstance(number, Mapping) and set(number) == set(ENDS)


def warnings(summary: ExternalSummary, scores: Scores, skipped: Mapping[str, str], known: bool) -> list[str]:
    """Limits of the validation, one sentence each; known: whether there is an evaluation of the development."""
    sentences = _left_out(skipped)
    if not known:
        sentences.append("There is no evaluation of the development: no figures and no baselines to compare with.")
    if summary.time_ratio > TIME_RATIO or summary.time_ratio < 1 / TIME_RATIO:
        ratio = f"The median of time_months is {summary.time_ratio:.2g} times that of the development"
        sentences.append(f"{ratio}: check the unit of the source table (ingest.time_unit).")
    sentences += _outcomes(summary, scores.late_entries)
    if summary.subtypes_left_out:
        sentences.append(f"The predicted subtypes are not scored: {summary.subtypes_left_out}.")
    if summary.excluded:
        count = sum(summary.excluded.values())
        sentences.append(f"{count} patients could not be predicted and are not scored (excluded.csv).")
    if summary.out_of_distribution:
        sentences.append(f"{summary.out_of_distribution} of {summary.patients} patients are out of distribution.")
    if summary.events < MIN_CLAIM_EVENTS:
        sentences.append(f"Only {summary.events} events: no conclusion is possible for this cohort.")
    if len(scores.unusable):
        months = ", ".join(f"{t:g}" for t in scores.unusable)
        sentences.append(f"Months {months} cannot be scored: no event before, or no patient followed beyond.")
    slopes = {f"{t:g}": value(scores.models, MCTI_KEY, f"slope_{t:g}") for t in scores.horizons}
    low, high = SLOPE_LIMITS
    wrong = [f"{s:.2f} at month {t}" for t, s in slopes.items() if s is not None and not low <= s <= high]
    if wrong:
        sentences.append(f"Poor calibration: slope {', '.join(wrong)}, outside {low:g} to {high:g}.")
    return sentences


def _outcomes(summary: ExternalSummary, late_entries: int) -> Iterator[str]:
    """What competing events and the late entry of this number of patients mean for the scores."""
    if summary.competing_events:
        yield f"{competing_sentence(summary.competing_events)} All scores are cause-specific."
    if late_entries:
        yield late_entry_sentence(late_entries)
    if summary.entry_difference:
        yield f"The cohorts differ in late entry ({summary.entry_difference})."


def _left_out(skipped: Mapping[str, str]) -> list[str]:
    """One sentence per reason."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        by_reason.setdefault(reason, []).append(display(name))
    return [f"Left out of the comparison: {', '.join(names)} ({reason})." for reason, names in by_reason.items()]


def last_horizon(scores: Scores) -> str:
    """The last scored horizon in months as text; empty without one."""
    return f"{scores.horizons[-1]:g}" if len(scores.horizons) else ""
