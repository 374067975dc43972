"""All numbers of the evaluation: every model by every metric, with intervals, and ours against each baseline."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mcti.evaluation import calibration, comparison, decision, metrics, story, subgroups
from mcti.evaluation.comparison import Draws, Interval, finite
from mcti.evaluation.curves import Floats
from mcti.evaluation.groups import RiskGroups
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predicted
from mcti.evaluation.statistics import Statistic
from mcti.params import EvaluateParams

OURS, CLINICAL = "mcti", "cox_clinical"


@dataclass(frozen=True)
class Scores:
    """What the report and the files show; all but the horizons is ready for JSON (null: not defined).

    models {name: {metric: {value, low, high}, d_calibration: {...}, folds: [...]}};  comparison: ours against each;
    risk_groups, subgroups, decision, regimes (of modalities), recalibration (before, after): ours alone.
    horizons (h,) scored, unusable (u,) asked for but not scored.
    """

    models: dict[str, dict[str, Any]]
    comparison: dict[str, dict[str, Any]]
    risk_groups: dict[str, Any]
    subgroups: list[dict[str, Any]]
    decision: dict[str, Any]
    horizons: Floats
    unusable: Floats
    regimes: dict[str, dict[str, Any]] = field(default_factory=dict)
    recalibration: dict[str, dict[str, Any]] = field(default_factory=dict)
    forest: list[story.Row] = field(default_factory=list)

    def c_index(self, model: str) -> Interval:
        """Value and interval of a model's C."""
        return as_interval(self.models[model]["c_index"])

    def metrics_json(self) -> dict[str, Any]:
        """{model: {metric: {value, low, high}, folds: [...]}}, and below ours what is told of ours alone."""
        document = {name: dict(numbers) for name, numbers in self.models.items()}
        document[OURS] |= {
            "comparison": self.comparison,
            "risk_groups": self.risk_groups,
            "subgroups": self.subgroups,
            "decision": self.decision,
        }
        document[OURS] |= {
            name: told for name, told in (("regimes", self.regimes), ("recalibration", self.recalibration)) if told
        }
        return document


def score(
    outcomes: Outcomes,
    predicted: Mapping[str, Predicted],
    patients: pd.DataFrame,
    grouped: RiskGroups,
    params: EvaluateParams,
) -> Scores:
    """Score every model of `predicted` (ours is `mcti`) on the same resamples of patients.

    patients: the cohort's table, rows as `outcomes` counts them;  grouped: our risk groups.
    """
    asked = np.array(sorted(params.horizons_months))
    usable = metrics.usable_horizons(outcomes, asked)
    draws = Draws.of(outcomes.event, params.bootstrap, params.seed)
    chosen = {name: Predicted(p.risk, p.survival[:, usable], p.subtypes) for name, p in predicted.items()}
    subtype = patients["subtype"].astype(str).to_numpy()
    models = {name: _model(outcomes, p, asked[usable], subtype, draws, params) for name, p in chosen.items()}
    ours = metrics.c_index(outcomes, predicted[OURS].risk)
    within = [g.as_dict() for g in subgroups.table(ours, patients, draws.stratified, params.confidence)]
    return Scores(
        models=models,
        comparison=compare(outcomes, predicted, draws, params),
        risk_groups=of_groups(outcomes, grouped, draws, params),
        subgroups=within,
        decision=decisions(outcomes, chosen, asked[usable], draws, params),
        horizons=asked[usable],
        unusable=asked[~usable],
        forest=story.forest_rows(outcomes, ours, within, draws.stratified, params.confidence),
    )


def as_interval(numbers: Mapping[str, float | None]) -> Interval:
    """What `Interval.as_dict` wrote, read back."""
    return Interval(*(_number(numbers[name]) for name in ("value", "low", "high")))


def _model(
    outcomes: Outcomes,
    predicted: Predicted,
    horizons: Floats,
    subtype: np.ndarray,
    draws: Draws,
    params: EvaluateParams,
) -> dict[str, Any]:
    """All of one model, for JSON; predicted.survival (m, h) at `horizons`."""
    statistics = of_model(outcomes, predicted, horizons, subtype, params)
    found: dict[str, Any] = {
        name: comparison.interval(statistic, draws.for_(statistic), params.confidence).as_dict()
        for name, statistic in statistics.items()
    }
    if len(horizons):
        spread = calibration.d_calibration(outcomes, predicted.survival, horizons)
        found["d_calibration"] = {"p": finite(spread.p), "shares": [float(share) for share in spread.share]}
    return {**found, "folds": by_fold(outcomes, predicted.risk)}


def of_model(
    outcomes: Outcomes, predicted: Predicted, horizons: Floats, subtype: np.ndarray, params: EvaluateParams
) -> dict[str, Statistic]:
    """Every metric of one model by its name, as a statistic of the drawn patients. survival (m, h) at `horizons`."""
    found: dict[str, Statistic] = {
        "c_index": metrics.c_index(outcomes, predicted.risk),
        "c_within_subtype": subgroups.within(metrics.c_index(outcomes, predicted.risk), subtype),
        "uno_c": metrics.uno_c(outcomes, predicted.risk, params.uno_tau_quantile),
    }
    for column, months in enumerate(horizons):
        found[f"auc_{months:g}"] = metrics.auc_at(outcomes, predicted.risk, float(months))
        alive, t = predicted.survival[:, column], float(months)
        found[f"brier_{t:g}"] = metrics.brier_at(outcomes, alive, t)
        found[f"slope_{t:g}"] = calibration.recalibration(outcomes, alive, t, "slope")
        found[f"intercept_{t:g}"] = calibration.recalibration(outcomes, alive, t, "intercept")
        found[f"ici_{t:g}"] = calibration.ici(outcomes, alive, t)
    if predicted.subtypes is not None:
        told = predicted.subtypes
        truth = subtype[outcomes.patient]
        found |= metrics.subtype_statistics(outcomes.patient, truth, list(told.columns), told.to_numpy())
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
    outcomes: Outcomes, predicted: Mapping[str, Predicted], draws: Draws, params: EvaluateParams
) -> dict[str, dict[str, Any]]:
    """Ours minus each baseline in C: paired interval, p, p after Holm, and the fold-corrected interval."""
    ours = metrics.c_index(outcomes, predicted[OURS].risk)
    share = float(np.mean([len(fold.patients) / max(len(fold.train_event), 1) for fold in outcomes.folds]))
    found: dict[str, dict[str, Any]] = {}
    for name in (n for n in predicted if n != OURS):
        theirs = metrics.c_index(outcomes, predicted[name].risk)
        difference = comparison.paired(ours, theirs, draws.stratified, params.confidence)
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


def of_groups(outcomes: Outcomes, grouped: RiskGroups, draws: Draws, params: EvaluateParams) -> dict[str, Any]:
    """Sizes, log-rank p, and the months of life between the lowest and the highest group up to the last horizon."""
    horizon = float(max(params.horizons_months))
    found: dict[str, Any] = {
        "sizes": dict(zip(grouped.names, grouped.sizes(), strict=True)),
        "log_rank_p": finite(grouped.p),
    }
    if len(np.unique(grouped.group)) > 1:
        gain = decision.rmst_difference(outcomes, grouped.group, horizon)
        found["rmst_months"] = {
            "horizon_months": horizon,
            **comparison.interval(gain, draws.free, params.confidence).as_dict(),
        }
    return found


def decisions(
    outcomes: Outcomes, predicted: Mapping[str, Predicted], horizons: Floats, draws: Draws, params: EvaluateParams
) -> dict[str, Any]:
    """Net benefit at the last horizon over thresholds: ours, the clinical model's, treating all; and our lead.

    Thresholds go from 2 % in steps of 2 % up to the risk that one patient in twenty exceeds.
    """
    if not len(horizons):
        return {}
    months, rival = float(horizons[-1]), CLINICAL if CLINICAL in predicted else params.primary_baseline
    ours, theirs = predicted[OURS].survival[:, -1], predicted[rival].survival[:, -1]
    highest = max(float(np.quantile(1 - ours, 0.95)), 0.04)
    rows = []
    for threshold in np.arange(0.02, min(highest, 0.9) + 1e-9, 0.02):
        benefit = {
            name: decision.net_benefit(outcomes, alive, months, float(threshold))
            for name, alive in (("ours", ours), ("rival", theirs), ("all", np.zeros(len(ours))))
        }
        lead = comparison.paired(benefit["ours"], benefit["rival"], draws.free, params.confidence).interval
        points = {n: finite(comparison.point(b, len(outcomes.patient_ids))) for n, b in benefit.items()}
        interval = comparison.interval(benefit["ours"], draws.free, params.confidence)
        ends = {"low": finite(interval.low), "high": finite(interval.high)}
        rows.append({"threshold": round(float(threshold), 2), **points, **ends, "lead": lead.as_dict()})
    return {"horizon_months": months, "rival": rival, "rows": rows}


def _number(value: float | None) -> float:
    return math.nan if value is None else value
