"""TRIPOD+AI items of an external validation, filled in from a run (Collins et al. 2024, BMJ 385:e078378)."""

from collections.abc import Mapping

from mcti.evaluation.external import ExternalSummary
from mcti.evaluation.scores import Scores
from mcti.evaluation.tripod_checklist import AUTHORS, TOPICS, ChecklistItem
from mcti.model.names import display


def fill(
    summary: ExternalSummary, scores: Scores, development: Mapping[str, object], skipped: Mapping[str, str]
) -> list[ChecklistItem]:
    """Every item in its order; an item without information in the run is left to the authors.

    development  metrics.json of the development;  skipped {baseline: reason}
    """
    known = _data_items(summary) | _analysis_items(summary, scores, skipped) | _result_items(summary, development)
    return [ChecklistItem(number, topic, known.get(number, AUTHORS)) for number, topic in TOPICS]


def _data_items(summary: ExternalSummary) -> dict[str, str]:
    slides = ", slide features" if summary.slides else ""
    return {
        "4": f"external evaluation (validation) of {summary.subject}; "
        + ("the survival curves were recalibrated" if summary.recalibration else "the model was not changed"),
        "7": "inputs standardised by the means and standard deviations of the training part of each member",
        "8a": f"{summary.endpoint}, time in months; the same endpoint as in development",
        "9a": f"{summary.predictors}{slides}; the same definitions as in development (What was compared)",
        "11": "a missing gene or covariate is set to the training mean; a patient without a modality that the model "
        "needs is not scored",
        "13": "events are not resampled; censoring is handled by weights",
    } | ({"26": summary.notice} if summary.notice else {})


def _analysis_items(summary: ExternalSummary, scores: Scores, skipped: Mapping[str, str]) -> dict[str, str]:
    horizons = ", ".join(f"{months:g}" for months in scores.horizons)
    baselines = ", ".join(display(name) for name in scores.comparison) or "none"
    left_out = f"; left out: {', '.join(display(name) for name in skipped)}" if skipped else ""
    return {
        "10": f"{summary.patients} patients, {summary.events} events; the intervals show the resulting precision",
        "12": "the frozen model predicted each patient once; Harrell's C, Uno's C, AUC, Brier score and calibration at "
        f"{horizons} months; baselines as fitted in development: {baselines}{left_out}",
        "14": "C by sex, age, subtype and site, with numbers of events (Subgroups)",
        "15": f"a risk score without unit, higher is worse, and the probability of no event by {horizons} months; "
        "risk groups by the limits of the development",
        "16": f"development cohort {summary.development or 'not recorded'}, validation cohort {summary.cohort}: "
        "What was compared, Case mix",
    }


def _result_items(summary: ExternalSummary, development: Mapping[str, object]) -> dict[str, str]:
    excluded = ", ".join(f"{count} ({reason})" for reason, count in summary.excluded.items()) or "none"
    compared = "with those of the development" if development else "the figures of the development are not known"
    return {
        "20a": f"{summary.patients + sum(summary.excluded.values())} patients in the cohort; not predicted: "
        f"{excluded}; "
        f"{summary.patients} scored, {summary.events} with the event",
        "20b": "Table 1 (Patients), by risk group; differences from the development in Case mix",
        "21": f"{summary.patients} patients, {summary.events} events in every analysis",
        "22": f"{summary.subject}: weights and settings are those of the registered model",
        "23a": f"Performance, Calibration, Decision curves, each with intervals, {compared}",
        "23b": "by site in Subgroups; Transportability",
        "24": f"recalibrated: {summary.recalibration}" if summary.recalibration else "none: the model was not updated",
    }
