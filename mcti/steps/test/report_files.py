"""Files of an external validation: tables, figures, the report and its numbers as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from mcti import redaction, storage
from mcti.evaluation import (
    characteristics,
    cohort_figures,
    external,
    external_report,
    figures,
    plot_tables,
    predictions,
)
from mcti.evaluation.external import CaseMixComparison, ExternalSummary
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.evaluation.risk_groups import RiskGroups
from mcti.evaluation.scores import Scores
from mcti.evaluation.transportability import Decomposition
from mcti.figure_canvas import Figure
from mcti.params import EvaluateParams
from mcti.steps.evaluate.report_files import FOLLOW_UP_SHOWN, calibration_points, write_figures
from mcti.steps.test.comparability import ComparedItem
from mcti.steps.test.development import Development

Points = Mapping[float, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class ExternalData:
    """Everything that the files of an external validation show.

    patients  cohort table of the scored patients, rows as in `outcomes`;  model, baselines  predictions at the
    requested horizons;  skipped {baseline: reason};  excluded {patient: reason} who could not be predicted
    """

    summary: ExternalSummary
    patients: pd.DataFrame
    outcomes: Outcomes
    model: Predictions
    baselines: Mapping[str, Predictions]
    skipped: Mapping[str, str]
    groups: RiskGroups
    scores: Scores
    params: EvaluateParams
    items: Sequence[ComparedItem]
    development: Development
    mixture: CaseMixComparison | None
    decomposition: Decomposition | None
    excluded: Mapping[str, str]

    def warnings(self) -> list[str]:
        """The limits of the validation, one sentence each."""
        return external.warnings(self.summary, self.scores, self.skipped, self.development.known)


def write(draft: Path, data: ExternalData) -> None:
    """Write all files into the existing folder `draft`."""
    _write_tables(draft, data)
    metrics = data.development.metrics
    items = [asdict(item) for item in data.items]
    document = external.document(data.summary, items, data.mixture, data.decomposition, metrics, data.skipped)
    storage.write_json(draft / "external.json", document)
    storage.write_json(draft / "metrics.json", data.scores.metrics_json())
    points = calibration_points(data.outcomes, data.model, data.params, data.scores)
    drawn = _figures(data, points)
    write_figures(draft, [figure for figure, _ in drawn], _plot_tables(data, points))
    details = {"items": items, "table_1": _table_1(data), "warnings": data.warnings(), "skipped": data.skipped}
    page = external_report.render(
        data.summary,
        data.scores,
        drawn,
        data.params,
        metrics,
        details,
        mixture=data.mixture,
        decomposition=data.decomposition,
    )
    (draft / "report.html").write_text(page, encoding="utf-8")


def _write_tables(draft: Path, data: ExternalData) -> None:
    horizons = np.array(sorted(data.params.horizons_months))
    table = predictions.with_outcomes(data.outcomes, data.model, horizons)
    table["risk_group"] = np.array(data.groups.names)[data.groups.group][table.index]
    predictions.write_csv(_redacted(table.drop(columns="fold")), draft / "predictions.csv")
    parts = [predictions.table(data.outcomes, p, horizons).assign(model=name) for name, p in data.baselines.items()]
    if parts:
        frame = pd.concat(parts).drop(columns="fold")
        predictions.write_csv(_redacted(frame[["model", *frame.columns.drop("model")]]), draft / "baselines.csv")
    excluded = pd.DataFrame(sorted(data.excluded.items()), columns=["patient_id", "reason"])
    excluded["reason"] = excluded["reason"].map(redaction.text)
    predictions.write_csv(_redacted(excluded), draft / "excluded.csv")
    predictions.write_csv(external.compared(data.scores, data.development.metrics), draft / "compared.csv")


def _redacted(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(patient_id=table["patient_id"].map(redaction.redact_id))


def _table_1(data: ExternalData) -> pd.DataFrame:
    """Characteristics of the patients by risk group; there is no column of a fold."""
    table = characteristics.table(data.patients, data.outcomes, data.groups)
    return table.drop(columns=[name for name in table if str(name).startswith("fold ")])


def _plot_tables(data: ExternalData, points: Points) -> dict[str, pd.DataFrame]:
    return {
        "km": plot_tables.kaplan_meier(data.groups),
        "over_time": plot_tables.over_time(data.scores),
        "roc": plot_tables.roc(data.outcomes, data.model.risk, data.scores.horizons),
        "calibration": plot_tables.calibration(points),
        "decision": plot_tables.decision(data.scores),
        "table_1": _table_1(data),
    }


def _figures(data: ExternalData, points: Points) -> list[tuple[Figure, str]]:
    """Figures with their captions."""
    scores = data.scores
    follow_up = float(np.quantile(data.outcomes.tested_time, FOLLOW_UP_SHOWN))
    rows = [row for row in scores.forest if not row.name.startswith("fold ")]
    forest = replace(cohort_figures.forest(rows), title="C by subgroup")  # there is one test part, no folds
    drawn = [
        (figures.kaplan_meier(data.groups, follow_up), "Limits of the groups from the development."),
        (forest, "A subgroup with fewer than ten events has no interval."),
    ]
    if len(scores.horizons):
        caption = "On the dotted line predicted and observed probability are equal."
        brier = {
            name: [numbers[f"brier_{t:g}"]["value"] for t in scores.horizons] for name, numbers in scores.models.items()
        }
        drawn += [
            (figures.calibration(points), caption),
            (
                figures.decision_curve(scores.decision),
                "Net benefit: true positives minus false positives, weighted by the threshold, per patient.",
            ),
            (figures.brier(brier, scores.horizons), "Weighted for censoring by the follow-up of this cohort."),
        ]
    return drawn
