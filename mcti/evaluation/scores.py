"""All numbers of an evaluation: every model by every metric with intervals, and MCTI against each other model."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mcti.arrays import BoolArray, FloatArray
from mcti.evaluation import calibration, cohort_figures, comparison, metrics, net_benefit, restricted_mean, subgroups
from mcti.evaluation.comparison import Draws, Interval, finite
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.predictions import Predictions
from mcti.evaluation.risk_groups import RiskGroups
from mcti.evaluation.statistics import Statistic
from mcti.model.names import PARTS
from mcti.params import EvaluateParams

MCTI_KEY = "mcti"
"""Key of the evaluated model in metrics.json and in every mapping of models."""

UNDEFINED = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Scores:
    """The numbers of the report and of metrics.json; all fields but the horizons are ready for JSON (null: undefined).

    models       {name: {metric: {value, low, high}, d_calibration: {...}, folds: [...]}}
    comparison   {name: MCTI against this model}
    risk_groups, subgroups, decision (net benefit), regimes (of modalities), recalibration (before, after),
    attribution (shares by part), search (of the settings): of MCTI only
    competing    cumulative incidence of all models (`competing_scores`); empty for a cohort without competing events
    late_entries evaluated patients who came under observation after the origin
    pretrained   whether the model is one over several cohorts (`mcti pretrain`), whose curves are not recalibrated
    horizons (h,) months that were scored;  unusable (u,) months that were requested and could not be scored
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
    forest: list[cohort_figures.ForestRow] = field(default_factory=list)
    pretrained: bool = False
    competing: dict[str, Any] = field(default_factory=dict)
    late_entries: int = 0

    def c_index(self, model: str) -> Interval:
        """C of a model with its interval."""
        return as_interval(self.models[model]["c_index"])

    def metrics_json(self) -> dict[str, Any]:
        """{model: {metric: {value, low, high}, folds: [...]}}; the entry of MCTI has further sections."""
        document = {name: dict(numbers) for name, numbers in self.models.items()}
        document[MCTI_KEY] |= {
            "comparison": self.comparison,
            "risk_groups": self.risk_groups,
            "subgroups": self.subgroups,
            "decision": self.decision,
        }
        optional = ("regimes", "recalibration", "attribution", "search", "competing")
        document[MCTI_KEY] |= {name: section for name in optional if (section := getattr(self, name))}
        return document


def score(
    outcomes: Outcomes,
    predictions: Mapping[str, Predictions],
    patients: pd.DataFrame,
    groups: RiskGroups,
    params: EvaluateParams,
    known: Mapping[str, dict[str, Any]] | None = None,
) -> Scores:
    """Score every model on the same resamples of patients.

    predictions {name: predictions at the requested horizons}, with `mcti`;  patients: the cohort table, rows as in
    `outcomes`;  groups: the risk groups of MCTI;  known: the numbers of some models, by `by_model`
    """
    requested, usable, draws, at_horizons = _sampled(outcomes, predictions, params)
    horizons, known = requested[usable], known or {}
    others = {name: p for name, p in at_horizons.items() if name not in known}
    models = {**known, **_models(outcomes, others, patients, horizons, draws)}
    pairs = metrics.c_index(outcomes, predictions[MCTI_KEY].risk)
    rows = subgroups.table(pairs, patients, outcomes.tested, draws.stratified)
    by_subgroup = [row.as_dict() for row in rows]
    return Scores(
        models={name: models[name] for name in predictions},
        comparison=compare(outcomes, at_horizons, horizons, draws, params),
        risk_groups=risk_group_numbers(outcomes, groups, draws, params),
        subgroups=by_subgroup,
        decision=decision_curve(outcomes, at_horizons, horizons, draws, params),
        horizons=horizons,
        unusable=requested[~usable],
        forest=cohort_figures.forest_rows(outcomes, pairs, by_subgroup, draws.stratified),
        late_entries=outcomes.late_entries,
    )


def by_model(
    outcomes: Outcomes, predictions: Mapping[str, Predictions], patients: pd.DataFrame, params: EvaluateParams
) -> dict[str, dict[str, Any]]:
    """{name: the numbers of the model, as in `Scores.models`}; arguments as in `score`."""
    requested, usable, draws, at_horizons = _sampled(outcomes, predictions, params)
    return _models(outcomes, at_horizons, patients, requested[usable], draws)


def _sampled(
    outcomes: Outcomes, predictions: Mapping[str, Predictions], params: EvaluateParams
) -> tuple[FloatArray, BoolArray, Draws, dict[str, Predictions]]:
    """Requested horizons, which of them can be scored, the resamples, and the predictions at the latter horizons."""
    requested = np.array(sorted(params.horizons_months))
    usable = metrics.usable_horizons(outcomes, requested)
    draws = Draws.sample(outcomes.event, params.bootstrap, params.seed, outcomes.tested)
    at_horizons = {name: Predictions(p.risk, p.survival[:, usable], p.subtypes) for name, p in predictions.items()}
    return requested, usable, draws, at_horizons


def _models(
    outcomes: Outcomes,
    predictions: Mapping[str, Predictions],
    patients: pd.DataFrame,
    horizons: FloatArray,
    draws: Draws,
) -> dict[str, dict[str, Any]]:
    subtype = patients["subtype"].astype(str).to_numpy()
    return {name: _model(outcomes, p, horizons, subtype, draws) for name, p in predictions.items()}


def as_interval(numbers: Mapping[str, float | None]) -> Interval:
    """The interval of {value, low, high}, in their unit: the inverse of `Interval.as_dict`."""
    return Interval(*(_number(numbers[name]) for name in ("value", "low", "high")))


def _model(
    outcomes: Outcomes, predictions: Predictions, horizons: FloatArray, subtype: np.ndarray, draws: Draws
) -> dict[str, Any]:
    """All numbers of one model, for JSON; predictions.survival (m, h) at `horizons`."""
    statistics = model_statistics(outcomes, predictions, horizons, subtype)
    numbers: dict[str, Any] = {
        name: comparison.interval(statistic, draws.matching(statistic)).as_dict()
        for name, statistic in statistics.items()
    }
    if len(horizons):
        result = calibration.d_calibration(outcomes, predictions.survival, horizons)
        numbers["d_calibration"] = {"p": finite(result.p), "shares": [float(share) for share in result.share]}
    return {**numbers, "folds": by_fold(outcomes, predictions.risk)}


def model_statistics(
    outcomes: Outcomes, predictions: Predictions, horizons: FloatArray, subtype: np.ndarray
) -> dict[str, Statistic]:
    """{key of metrics.json: statistic of the drawn patients} of one model.

    predictions.survival (m, h) at `horizons` (h,) months;  subtype (n,) of the cohort table
    """
    pairs = metrics.c_index(outcomes, predictions.risk)
    statistics: dict[str, Statistic] = {
        "c_index": pairs,
        "c_within_subtype": subgroups.pairs_of_one_label(pairs, subtype),
        "uno_c": metrics.uno_c(outcomes, predictions.risk),
    }
    for column, horizon in enumerate(horizons):
        survival, t = predictions.survival[:, column], float(horizon)
        statistics[f"auc_{t:g}"] = metrics.auc_at(outcomes, predictions.risk, t)
        statistics[f"brier_{t:g}"] = metrics.brier_at(outcomes, survival, t)
        statistics[f"slope_{t:g}"] = calibration.recalibration(outcomes, survival, t, "slope")
        statistics[f"intercept_{t:g}"] = calibration.recalibration(outcomes, survival, t, "intercept")
        statistics[f"oe_{t:g}"] = calibration.observed_to_expected(outcomes, survival, t)
        statistics[f"ici_{t:g}"] = calibration.ici(outcomes, survival, t)
    if (probability := predictions.subtypes) is not None:
        truth, classes = subtype[outcomes.patient], list(probability.columns)
        statistics |= metrics.subtype_statistics(outcomes.patient, truth, classes, probability.to_numpy())
    if len(horizons):
        statistics["ibs"] = metrics.integrated_brier(outcomes, predictions.survival, horizons)
        statistics["ibs_skill"] = metrics.brier_skill(outcomes, predictions.survival, horizons)
    return statistics


def by_fold(outcomes: Outcomes, risk: FloatArray) -> list[dict[str, Any]]:
    """Patients, events and C of each fold; C is null where no pair can be ordered, for example without events."""
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
    outcomes: Outcomes,
    predictions: Mapping[str, Predictions],
    horizons: FloatArray,
    draws: Draws,
    params: EvaluateParams,
) -> dict[str, dict[str, Any]]:
    """MCTI minus each other model: in C (paired interval, p, p after Holm, fold-corrected) and in the Brier score.

    `ibs_difference` is that of the integrated Brier score: below 0 the error of MCTI is smaller; null without a
    horizon. The parts of MCTI are compared too, but they are not comparators: Holm's correction does not include them.
    """
    others = [name for name in predictions if name != MCTI_KEY]
    comparators = [name for name in others if name not in PARTS]
    entries = {
        name: _compare_pair(outcomes, predictions[MCTI_KEY], predictions[name], horizons, draws) for name in others
    }
    for key in ("p", "ibs_p"):
        adjusted = comparison.holm({name: _number(entries[name][key]) for name in comparators})
        for name in others:
            entries[name][f"{key}_holm"] = finite(adjusted.get(name, math.nan))
    for name in others:
        entries[name]["primary"] = name == params.primary_baseline
    return entries


def _compare_pair(
    outcomes: Outcomes, mcti: Predictions, comparator: Predictions, horizons: FloatArray, draws: Draws
) -> dict[str, Any]:
    pairs, comparator_pairs = metrics.c_index(outcomes, mcti.risk), metrics.c_index(outcomes, comparator.risk)
    difference = comparison.paired(pairs, comparator_pairs, draws.stratified)
    ones = np.ones((1, len(outcomes.patient_ids)))
    by_fold = [float((pairs.only(k)(ones) - comparator_pairs.only(k)(ones))[0]) for k in range(len(outcomes.folds))]
    share = float(np.mean([len(fold.patients) / max(len(fold.train_event), 1) for fold in outcomes.folds]))
    folds = comparison.nadeau_bengio(by_fold, share)
    entry = {
        "difference": difference.interval.as_dict(),
        "p": finite(difference.p),
        "fold_corrected": {**folds.interval.as_dict(), "p": finite(folds.p), "folds": folds.folds},
        "ibs_difference": UNDEFINED.as_dict(),
        "ibs_p": None,
    }
    if len(horizons):
        errors = [metrics.integrated_brier(outcomes, model.survival, horizons) for model in (mcti, comparator)]
        difference = comparison.paired(errors[0], errors[1], draws.unstratified)
        entry |= {"ibs_difference": difference.interval.as_dict(), "ibs_p": finite(difference.p)}
    return entry


def risk_group_numbers(outcomes: Outcomes, groups: RiskGroups, draws: Draws, params: EvaluateParams) -> dict[str, Any]:
    """Sizes, log-rank p, and the difference in restricted mean survival time between the lowest and highest group.

    Up to the last requested horizon, or up to the last follow-up of the shorter group where that is earlier.
    """
    requested = float(max(params.horizons_months))
    numbers: dict[str, Any] = {
        "sizes": dict(zip(groups.names, groups.sizes(), strict=True)),
        "log_rank_p": finite(groups.p),
    }
    if len(np.unique(groups.group)) > 1:
        horizon = min(requested, restricted_mean.common_follow_up(outcomes, groups.group))
        difference = restricted_mean.rmst_difference(outcomes, groups.group, horizon)
        numbers["rmst_months"] = {
            "asked_months": requested,
            "horizon_months": horizon,
            **comparison.interval(difference, draws.unstratified).as_dict(),
        }
    return numbers


def decision_curve(
    outcomes: Outcomes,
    predictions: Mapping[str, Predictions],
    horizons: FloatArray,
    draws: Draws,
    params: EvaluateParams,
) -> dict[str, Any]:
    """Net benefit at the last horizon by threshold: MCTI, the primary baseline, treating all patients.

    Thresholds are from 2 % in steps of 2 % up to the predicted risk that 5 % of the patients exceed. Where the primary
    baseline was skipped, `baseline` (its key in metrics.json) and the `difference` to it are null.
    """
    if not len(horizons):
        return {}
    baseline = params.primary_baseline if params.primary_baseline in predictions else None
    survival = {"mcti": predictions[MCTI_KEY].survival[:, -1]}
    if baseline is not None:
        survival["baseline"] = predictions[baseline].survival[:, -1]
    survival["all"] = np.zeros(len(survival["mcti"]))
    highest = max(float(np.quantile(1 - survival["mcti"], 0.95)), 0.04)
    months = float(horizons[-1])
    rows = [
        _decision_row(outcomes, survival, months, float(threshold), draws)
        for threshold in np.arange(0.02, min(highest, 0.9) + 1e-9, 0.02)
    ]
    return {"horizon_months": months, "baseline": baseline, "rows": rows}


def _decision_row(
    outcomes: Outcomes, survival: Mapping[str, FloatArray], months: float, threshold: float, draws: Draws
) -> dict[str, Any]:
    """One threshold; survival {key of the row: S(months) (m,)}."""
    benefit = {name: net_benefit.net_benefit(outcomes, s, months, threshold) for name, s in survival.items()}
    difference = UNDEFINED
    if "baseline" in benefit:
        difference = comparison.paired(benefit["mcti"], benefit["baseline"], draws.unstratified).interval
    points = {n: finite(comparison.point(b, len(outcomes.patient_ids))) for n, b in benefit.items()}
    interval = comparison.interval(benefit["mcti"], draws.unstratified)
    ends = {"low": finite(interval.low), "high": finite(interval.high)}
    return {"threshold": round(threshold, 2), "baseline": None, **points, **ends, "difference": difference.as_dict()}


def _number(value: float | None) -> float:
    return math.nan if value is None else value
