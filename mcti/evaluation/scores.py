"""All numbers of the evaluation: every model by every metric, with intervals, and ours against each baseline."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mcti.arrays import FloatArray
from mcti.evaluation import calibration, cohort_figures, comparison, decision, metrics, subgroups
from mcti.evaluation.comparison import Draws, Interval, finite
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.evaluation.risk_groups import RiskGroups
from mcti.evaluation.statistics import Statistic
from mcti.model.names import PARTS
from mcti.params import EvaluateParams

OURS = "mcti"


@dataclass(frozen=True)
class Scores:
    """What the report and the files show; all but the horizons is ready for JSON (null: not defined).

    models {name: {metric: {value, low, high}, d_calibration: {...}, folds: [...]}};  comparison: ours against each;
    risk_groups, subgroups, decision, regimes (of modalities), recalibration (before, after), attribution (shares by
    part), search (of the settings, and the evaluated patients that it saw): ours alone.
    horizons (h,) scored, unusable (u,) asked for but not scored.
    """

    models: dict[str, dict[str, Any]]
    comparison: dict[str, dict[str, Any]]
    risk_groups: dict[str, Any]
    subgroups: list[dict[str, Any]]
    decision: dict[str, Any]
    horizons: FloatArray
    unusable: FloatArray
    regimes: dict[str, dict[str, Any]] = field(default_factory=dict)
    recalibration: dict[str, dict[str, Any]] = field(default_factory=dict)
    attribution: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    forest: list[cohort_figures.Row] = field(default_factory=list)

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
            name: told
            for name in ("regimes", "recalibration", "attribution", "search")
            if (told := getattr(self, name))
        }
        return document


def score(
    outcomes: Outcomes,
    predicted: Mapping[str, Predictions],
    patients: pd.DataFrame,
    grouped: RiskGroups,
    params: EvaluateParams,
) -> Scores:
    """Score every model of `predicted` (ours is `mcti`) on the same resamples of patients.

    patients: the cohort's table, rows as `outcomes` counts them;  grouped: our risk groups.
    """
    asked = np.array(sorted(params.horizons_months))
    usable = metrics.usable_horizons(outcomes, asked)
    draws = Draws.sample(outcomes.event, params.bootstrap, params.seed, outcomes.tested)
    chosen = {name: Predictions(p.risk, p.survival[:, usable], p.subtypes) for name, p in predicted.items()}
    subtype = patients["subtype"].astype(str).to_numpy()
    models = {name: _model(outcomes, p, asked[usable], subtype, draws, params) for name, p in chosen.items()}
    ours = metrics.c_index(outcomes, predicted[OURS].risk)
    member = outcomes.tested
    within = [g.as_dict() for g in subgroups.table(ours, patients, member, draws.stratified, params.confidence)]
    return Scores(
        models=models,
        comparison=compare(outcomes, chosen, asked[usable], draws, params),
        risk_groups=risk_group_numbers(outcomes, grouped, draws, params),
        subgroups=within,
        decision=decision_curve(outcomes, chosen, asked[usable], draws, params),
        horizons=asked[usable],
        unusable=asked[~usable],
        forest=cohort_figures.forest_rows(outcomes, ours, within, draws.stratified, params.confidence),
    )


def as_interval(numbers: Mapping[str, float | None]) -> Interval:
    """What `Interval.as_dict` wrote, read back."""
    return Interval(*(_number(numbers[name]) for name in ("value", "low", "high")))


def _model(
    outcomes: Outcomes,
    predicted: Predictions,
    horizons: FloatArray,
    subtype: np.ndarray,
    draws: Draws,
    params: EvaluateParams,
) -> dict[str, Any]:
    """All of one model, for JSON; predicted.survival (m, h) at `horizons`."""
    statistics = model_statistics(outcomes, predicted, horizons, subtype, params)
    found: dict[str, Any] = {
        name: comparison.interval(statistic, draws.matching(statistic), params.confidence).as_dict()
        for name, statistic in statistics.items()
    }
    if len(horizons):
        spread = calibration.d_calibration(outcomes, predicted.survival, horizons)
        found["d_calibration"] = {"p": finite(spread.p), "shares": [float(share) for share in spread.share]}
    return {**found, "folds": by_fold(outcomes, predicted.risk)}


def model_statistics(
    outcomes: Outcomes, predicted: Predictions, horizons: FloatArray, subtype: np.ndarray, params: EvaluateParams
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


def by_fold(outcomes: Outcomes, risk: FloatArray) -> list[dict[str, Any]]:
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
    outcomes: Outcomes, predicted: Mapping[str, Predictions], horizons: FloatArray, draws: Draws, params: EvaluateParams
) -> dict[str, dict[str, Any]]:
    """Ours minus each other model: in C (paired interval, p, p after Holm, fold-corrected), and in the Brier score.

    `ibs_difference` is of the integrated Brier score, lower is better: below 0 ours errs less; null without a horizon.
    The parts of ours are compared, too, but are no rivals: they take no part in Holm's adjustment.
    """
    others = [name for name in predicted if name != OURS]
    found = {name: _against(outcomes, predicted[OURS], predicted[name], horizons, draws, params) for name in others}
    rivals = [name for name in others if name not in PARTS]
    for key in ("p", "ibs_p"):
        adjusted = comparison.holm({name: _number(found[name][key]) for name in rivals})
        for name in others:
            found[name][f"{key}_holm"] = finite(adjusted.get(name, math.nan))
    for name in others:
        found[name]["primary"] = name == params.primary_baseline
    return found


def _against(
    outcomes: Outcomes,
    mine: Predictions,
    other: Predictions,
    horizons: FloatArray,
    draws: Draws,
    params: EvaluateParams,
) -> dict[str, Any]:
    ours, theirs = metrics.c_index(outcomes, mine.risk), metrics.c_index(outcomes, other.risk)
    difference = comparison.paired(ours, theirs, draws.stratified, params.confidence)
    everyone = np.ones((1, len(outcomes.patient_ids)))
    by_fold = [float((ours.only(k)(everyone) - theirs.only(k)(everyone))[0]) for k in range(len(outcomes.folds))]
    share = float(np.mean([len(fold.patients) / max(len(fold.train_event), 1) for fold in outcomes.folds]))
    folds = comparison.nadeau_bengio(by_fold, share, params.confidence)
    found = {
        "difference": difference.interval.as_dict(),
        "p": finite(difference.p),
        "fold_corrected": {**folds.interval.as_dict(), "p": finite(folds.p), "folds": folds.folds},
        "ibs_difference": Interval(math.nan, math.nan, math.nan).as_dict(),
        "ibs_p": None,
    }
    if len(horizons):
        pair = [metrics.integrated_brier(outcomes, one.survival, horizons) for one in (mine, other)]
        errors = comparison.paired(pair[0], pair[1], draws.free, params.confidence)
        found |= {"ibs_difference": errors.interval.as_dict(), "ibs_p": finite(errors.p)}
    return found


def risk_group_numbers(outcomes: Outcomes, grouped: RiskGroups, draws: Draws, params: EvaluateParams) -> dict[str, Any]:
    """Sizes, log-rank p, and the months of life between the lowest and the highest group.

    Up to the last horizon, or up to the last follow-up of the shorter group where that is earlier.
    """
    asked = float(max(params.horizons_months))
    found: dict[str, Any] = {
        "sizes": dict(zip(grouped.names, grouped.sizes(), strict=True)),
        "log_rank_p": finite(grouped.p),
    }
    if len(np.unique(grouped.group)) > 1:
        horizon = min(asked, decision.common_follow_up(outcomes, grouped.group))
        gain = decision.rmst_difference(outcomes, grouped.group, horizon)
        found["rmst_months"] = {
            "asked_months": asked,
            "horizon_months": horizon,
            **comparison.interval(gain, draws.free, params.confidence).as_dict(),
        }
    return found


def decision_curve(
    outcomes: Outcomes, predicted: Mapping[str, Predictions], horizons: FloatArray, draws: Draws, params: EvaluateParams
) -> dict[str, Any]:
    """Net benefit at the last horizon over thresholds: ours, the primary baseline's, treating all; and our lead.

    Thresholds go from 2 % in steps of 2 % up to the risk that one patient in twenty exceeds. Where the primary
    baseline was left out there is no rival (null), and no lead.
    """
    if not len(horizons):
        return {}
    months, rival = float(horizons[-1]), params.primary_baseline if params.primary_baseline in predicted else None
    ours = predicted[OURS].survival[:, -1]
    others = {} if rival is None else {"rival": predicted[rival].survival[:, -1]}
    highest = max(float(np.quantile(1 - ours, 0.95)), 0.04)
    rows = []
    for threshold in np.arange(0.02, min(highest, 0.9) + 1e-9, 0.02):
        benefit = {
            name: decision.net_benefit(outcomes, alive, months, float(threshold))
            for name, alive in {"ours": ours, **others, "all": np.zeros(len(ours))}.items()
        }
        lead = Interval(math.nan, math.nan, math.nan)
        if rival is not None:
            lead = comparison.paired(benefit["ours"], benefit["rival"], draws.free, params.confidence).interval
        points = {n: finite(comparison.point(b, len(outcomes.patient_ids))) for n, b in benefit.items()}
        interval = comparison.interval(benefit["ours"], draws.free, params.confidence)
        ends = {"low": finite(interval.low), "high": finite(interval.high)}
        rows.append({"threshold": round(float(threshold), 2), "rival": None, **points, **ends, "lead": lead.as_dict()})
    return {"horizon_months": months, "rival": rival, "rows": rows}


def _number(value: float | None) -> float:
    return math.nan if value is None else value
