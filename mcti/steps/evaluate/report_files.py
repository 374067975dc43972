"""Files of an evaluation: prediction tables, plot tables, figures and the report."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from mcti import storage
from mcti.evaluation import calibration, cohort_figures, competing_report, figures, plot_tables, predictions, report
from mcti.evaluation.competing_scores import CompetingScores
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.evaluation.report import CohortSummary, ModelInsights
from mcti.evaluation.risk_groups import RiskGroups
from mcti.evaluation.scores import MCTI_KEY, Scores
from mcti.figure_canvas import Figure
from mcti.params import EvaluateParams

FOLLOW_UP_SHOWN = 0.9
"""The Kaplan-Meier figure ends at this quantile of follow-up; after it, a curve depends on very few patients."""


@dataclass(frozen=True)
class ReportData:
    """Everything that the report and the tables of its figures show.

    mcti     predictions of MCTI at the requested horizons;  groups  its risk groups
    skipped  {baseline: reason};  competing  None for a cohort without competing events, or without a usable horizon
    """

    outcomes: Outcomes
    mcti: Predictions
    groups: RiskGroups
    scores: Scores
    params: EvaluateParams
    cohort: CohortSummary
    skipped: Mapping[str, str]
    insights: ModelInsights
    competing: CompetingScores | None = None


def write_predictions(
    draft: Path, data: ReportData, predicted: Mapping[str, Predictions], patients: pd.DataFrame
) -> None:
    """Write predictions.csv (MCTI), baselines.csv (all other models) and groups.csv (columns subtype and site); with
    competing events also cumulative_incidence.csv (all models).

    predicted  predictions of every model;  patients  cohort table, one row per patient
    """
    outcomes, horizons = data.outcomes, np.array(sorted(data.params.horizons_months))
    predictions.write_csv(predictions.with_outcomes(outcomes, data.mcti, horizons), draft / "predictions.csv")
    parts = [
        predictions.table(outcomes, p, horizons).assign(model=name) for name, p in predicted.items() if name != MCTI_KEY
    ]
    if parts:
        frame = pd.concat(parts)
        predictions.write_csv(frame[["model", *frame.columns.drop("model")]], draft / "baselines.csv")
    if data.competing is not None:
        predictions.write_csv(
            competing_report.predictions(outcomes, data.competing), draft / "cumulative_incidence.csv"
        )
    tested = patients.iloc[outcomes.tested]
    predictions.write_csv(tested[["patient_id", "subtype", "site"]], draft / "groups.csv")


def write_report(draft: Path, data: ReportData) -> None:
    """Write metrics.json, plots/*.csv, figures/*.{svg,png} and report.html."""
    storage.write_json(draft / "metrics.json", data.scores.metrics_json())
    points = calibration_points(data.outcomes, data.mcti, data.params, data.scores)
    drawn = [*_result_figures(data, points), *_cohort_figures(data)]
    write_figures(draft, [figure for figure, _ in drawn], _plot_tables(data, points))
    page = report.render(data.cohort, data.scores, drawn, data.params, data.skipped, data.insights)
    (draft / "report.html").write_text(page, encoding="utf-8")


def write_figures(draft: Path, figures: Iterable[Figure], plots: Mapping[str, pd.DataFrame]) -> None:
    """Write figures/*.{svg,png}, and the tables of numbers {name: table} as plots/*.csv."""
    (draft / "plots").mkdir()
    for name, frame in plots.items():
        predictions.write_csv(frame, draft / "plots" / f"{name}.csv")
    (draft / "figures").mkdir()
    for figure in figures:
        (draft / "figures" / f"{figure.name}.svg").write_text(figure.svg, encoding="utf-8")
        (draft / "figures" / f"{figure.name}.png").write_bytes(figure.png)


def calibration_points(
    outcomes: Outcomes, mcti: Predictions, params: EvaluateParams, scores: Scores
) -> dict[float, dict[str, np.ndarray]]:
    """{months: groups of `calibration.calibration_groups`} for every scored horizon; mcti: at the requested ones."""
    column = {float(t): i for i, t in enumerate(sorted(params.horizons_months))}
    return {
        t: calibration.calibration_groups(outcomes, mcti.survival[:, column[t]], t) for t in map(float, scores.horizons)
    }


def _plot_tables(data: ReportData, points: Mapping[float, Mapping[str, np.ndarray]]) -> dict[str, pd.DataFrame]:
    return {
        "km": plot_tables.kaplan_meier(data.groups),
        "c_index_by_fold": plot_tables.c_index_by_fold(data.scores),
        "over_time": plot_tables.over_time(data.scores),
        "roc": plot_tables.roc(data.outcomes, data.mcti.risk, data.scores.horizons),
        "calibration": plot_tables.calibration(points),
        "decision": plot_tables.decision(data.scores),
        "table_1": data.insights.table_1,
        **({} if data.competing is None else competing_report.plots(data.competing)),
    }


def _result_figures(data: ReportData, points: Mapping[float, Mapping[str, np.ndarray]]) -> list[tuple[Figure, str]]:
    """Figures of performance with their captions."""
    scores = data.scores
    follow_up = float(np.quantile(data.outcomes.tested_time, FOLLOW_UP_SHOWN))
    c_by_model = {name: tuple(vars(scores.c_index(name)).values()) for name in scores.models}
    by_fold = {
        name: [np.nan if f["c_index"] is None else f["c_index"] for f in numbers["folds"]]
        for name, numbers in scores.models.items()
    }
    drawn = [
        (figures.forest(c_by_model, by_fold), ""),
        (cohort_figures.forest(scores.forest), "A fold with fewer than ten events has no interval."),
        (
            figures.kaplan_meier(data.groups, follow_up),
            "MCTI, out of fold; limits from the training part of each fold.",
        ),
    ]
    if len(scores.horizons):
        drawn += [
            (
                figures.calibration(points),
                "MCTI, out of fold. On the dotted line predicted and observed probability are equal.",
            ),
            (
                figures.decision_curve(scores.decision),
                "Net benefit: true positives minus false positives, weighted by the threshold, per patient. A model is "
                "useful where its line is above treating all patients and above treating none.",
            ),
            (figures.brier(_brier_by_model(scores), scores.horizons), "Weighted for censoring by the training part."),
        ]
    return drawn if data.competing is None else drawn + competing_report.drawn(data.competing)


def _brier_by_model(scores: Scores) -> dict[str, list[float]]:
    return {
        name: [numbers[f"brier_{t:g}"]["value"] for t in scores.horizons] for name, numbers in scores.models.items()
    }


def _cohort_figures(data: ReportData) -> list[tuple[Figure, str]]:
    """Patient flow and learning curves with their captions."""
    drawn = [(cohort_figures.flow(data.cohort.excluded, data.cohort.patients, data.cohort.events), "")]
    if data.insights.history:
        caption = "Losses of the training parts; they were not used to choose an epoch."
        drawn.append((cohort_figures.learning(data.insights.history), caption))
    return drawn
