"""All numbers of the evaluation: every model by every metric, with intervals, and ours against each baseline."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcti.evaluation import comparison, metrics
from mcti.evaluation.comparison import Interval, finite
from mcti.evaluation.curves import Floats
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predicted
from mcti.evaluation.statistics import Statistic
from mcti.params import EvaluateParams

OURS = "mcti"


@dataclass(frozen=True)
class Scores:
    """What the report and the files show. `models` and `comparison` are ready for JSON (null: not defined)."""

    models: dict[str, dict[str, Any]]
    comparison: dict[str, dict[str, Any]]
    horizons: Floats
    unusable_horizons: Floats

    def c_index(self, model: str) -> Interval:
        """Value and interval of a model's C."""
        numbers = {k: math.nan if v is None else v for k, v in self.models[model]["c_index"].items()}
        return Interval(**numbers)

    def metrics_json(self) -> dict[str, Any]:
        """{model: {metric: {value, low, high}, folds: [...]}}, and below ours the comparison with each baseline."""
        document = {name: dict(numbers) for name, numbers in self.models.items()}
        document[OURS]["comparison"] = self.comparison
        return document


def score(outcomes: Outcomes, predicted: Mapping[str, Predicted], params: EvaluateParams) -> Scores:
    """Score every model of `predicted` (ours is `mcti`) on the same resamples of patients."""
    asked = np.array(sorted(params.horizons_months))
    usable = metrics.usable_horizons(outcomes, asked)
    draws = comparison.resamples(outcomes.event, params.bootstrap, params.seed)
    models: dict[str, dict[str, Any]] = {}
    for name, prediction in predicted.items():
        chosen = Predicted(prediction.risk, prediction.survival[:, usable])
        statistics = of_model(outcomes, chosen, asked[usable], params)
        models[name] = {
            metric: comparison.interval(statistic, draws, params.confidence).as_dict()
            for metric, statistic in statistics.items()
        }
        models[name]["folds"] = by_fold(outcomes, prediction.risk)
    compared = compare(outcomes, predicted, draws, params)
    return Scores(models, compared, asked[usable], asked[~usable])


def of_model(
    outcomes: Outcomes, predicted: Predicted, horizons: Floats, params: EvaluateParams
) -> dict[str, Statistic]:
    """Every metric of one model by its name, as a statistic of the drawn patients. survival (m, h) at `horizons`."""
    found: dict[str, Statistic] = {
        "c_index": metrics.c_index(outcomes, predicted.risk),
        "uno_c": metrics.uno_c(outcomes, predicted.risk, params.uno_tau_quantile),
    }
    for column, months in enumerate(horizons):
        found[f"auc_{months:g}"] = metrics.auc_at(outcomes, predicted.risk, float(months))
        found[f"brier_{months:g}"] = metrics.brier_at(outcomes, predicted.survival[:, column], float(months))
    if len(horizons):
        found["ibs"] = metrics.integrated_brier(outcomes, predicted.survival, horizons)
        found["ibs_skill"] = metrics.brier_skill(outcomes, predicted.survival, horizons)
    return found


def by_fold(outcomes: Outcomes, risk: Floats) -> list[dict[str, Any]]:
    """Patients, events and C of each fold; C is null where no pair can be ordered, e.g. in a fold without events."""
    statistic = metrics.c_index(outcomes, risk)
    return [
        {
            "fold": fold.number,
            "patients": len(fold.patients),
            "events": int(fold.event.sum()),
            "c_index": finite(comparison.point(statistic.only(k), len(outcomes.patient_ids))),
        }
        for k, fold in enumerate(outcomes.folds)
    ]


def compare(
    outcomes: Outcomes, predicted: Mapping[str, Predicted], draws: Floats, params: EvaluateParams
) -> dict[str, dict[str, Any]]:
    """Ours minus each baseline in C: paired interval, p, p after Holm, and the fold-corrected interval."""
    ours = metrics.c_index(outcomes, predicted[OURS].risk)
    share = float(np.mean([len(fold.patients) / max(len(fold.train_event), 1) for fold in outcomes.folds]))
    found: dict[str, dict[str, Any]] = {}
    for name in (n for n in predicted if n != OURS):
        theirs = metrics.c_index(outcomes, predicted[name].risk)
        difference = comparison.paired(ours, theirs, draws, params.confidence)
        everyone = np.ones((1, len(outcomes.patient_ids)))
        by_fold = [float((ours.only(k)(everyone) - theirs.only(k)(everyone))[0]) for k in range(len(outcomes.folds))]
        folds = comparison.nadeau_bengio(by_fold, share, params.confidence)
        found[name] = {
            "difference": difference.interval.as_dict(),
            "p": finite(difference.p),
            "fold_corrected": {**folds.interval.as_dict(), "p": finite(folds.p), "folds": folds.folds},
        }
    adjusted = comparison.holm({name: _number(entry["p"]) for name, entry in found.items()})
    for name, p in adjusted.items():
        found[name]["p_holm"] = finite(p)
        found[name]["primary"] = name == params.primary_baseline
    return found


def _number(value: float | None) -> float:
    return math.nan if value is None else value
