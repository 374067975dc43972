"""The numbers of an evaluation with competing events: the predicted cumulative incidence of every model, scored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcti.arrays import FloatArray
from mcti.evaluation import comparison, competing
from mcti.evaluation.comparison import Draws
from mcti.evaluation.competing import CompetingOutcomes, Incidence
from mcti.evaluation.competing_predictions import CompetingHazards
from mcti.evaluation.design_matrix import Inputs
from mcti.evaluation.predictions import Predictions
from mcti.evaluation.risk_groups import RiskGroups
from mcti.evaluation.statistics import Statistic
from mcti.params import EvaluateParams

CAUSE_SPECIFIC_COX, AALEN_JOHANSEN = "cause_specific_cox", "aalen_johansen"
"""Keys of the two baselines of absolute risk in metrics.json."""


@dataclass(frozen=True)
class GroupIncidence:
    """Aalen-Johansen curves of a risk group with `patients` test rows: of the event and of the competing event."""

    name: str
    patients: int
    event: Incidence
    competing: Incidence


@dataclass(frozen=True)
class CompetingScores:
    """What the report shows of the competing events.

    numbers     section `competing` of metrics.json: events, horizons, models {name: {metric: {value, low, high}}},
                comparison {name: the evaluated model minus this one}
    incidence   {model: F1 (m, h)} at `horizons` (h,) months
    groups      curves by risk group of MCTI
    calibration {months: groups of predicted and observed F1 of MCTI}
    """

    numbers: dict[str, Any]
    incidence: Mapping[str, FloatArray]
    horizons: FloatArray
    groups: tuple[GroupIncidence, ...]
    calibration: Mapping[float, Mapping[str, FloatArray]]


def score(
    tested: CompetingOutcomes,
    models: Mapping[str, Predictions],
    inputs: Inputs,
    groups: RiskGroups,
    horizons: FloatArray,
    params: EvaluateParams,
) -> CompetingScores:
    """Score the cumulative incidence of every model, of two cause-specific Cox regressions and of Aalen-Johansen.

    models  {name: predictions at the requested horizons}, the evaluated model first;  inputs: rows as in `tested`
    horizons (h,)   those of the requested ones that can be scored, at least one
    """
    requested = np.array(sorted(params.horizons_months))
    usable = np.isin(requested, horizons)
    incidence = predict(tested, {name: one.survival[:, usable] for name, one in models.items()}, inputs, horizons,
                        params.seed)  # fmt: skip
    either = tested.by_any
    draws = Draws.sample(tested.by_event.event, params.bootstrap, params.seed, either.tested)
    name_of_first = next(iter(models))
    first = incidence[name_of_first]
    return CompetingScores(
        numbers={
            "events": int(tested.by_event.tested_event.sum()),
            "competing_events": int(tested.competing[either.tested].sum()),
            "horizons_months": horizons.tolist(),
            "models": {name: _numbers(tested, values, horizons, draws) for name, values in incidence.items()},
            "comparison": {
                name: _difference(tested, first, values, horizons, draws)
                for name, values in incidence.items()
                if name != name_of_first
            },
        },
        incidence=incidence,
        horizons=horizons,
        groups=group_curves(tested, groups),
        calibration={
            t: competing.calibration_groups(tested, first[:, k], t) for k, t in enumerate(map(float, horizons))
        },
    )


def predict(
    tested: CompetingOutcomes, survival: Mapping[str, FloatArray], inputs: Inputs, horizons: FloatArray, seed: int
) -> dict[str, FloatArray]:
    """F1 (m, h) of every model, and of the two baselines of absolute risk.

    survival    {name: cause-specific S (m, h)} at `horizons` (h,) months
    """
    from threadpoolctl import threadpool_limits

    # One thread: a fixed order of summation, so that the last bit does not depend on the load of the machine.
    with threadpool_limits(1):
        hazards = CompetingHazards(tested, inputs, horizons, seed)
        incidence = {name: hazards.incidence(curves) for name, curves in survival.items()}
        incidence[CAUSE_SPECIFIC_COX] = hazards.cause_specific_cox()
    return incidence | {AALEN_JOHANSEN: competing.marginal_incidence(tested, horizons)}


def statistics(tested: CompetingOutcomes, incidence: FloatArray, horizons: FloatArray) -> dict[str, Statistic]:
    """{key of metrics.json: statistic of the drawn patients} of one model; incidence (m, h) at `horizons` (h,)."""
    # The probability by the last horizon orders the patients: a model of two hazards has no single risk score.
    result: dict[str, Statistic] = {"c_competing": competing.c_index(tested, incidence[:, -1])}
    for column, months in enumerate(map(float, horizons)):
        predicted = incidence[:, column]
        result[f"brier_competing_{months:g}"] = competing.brier_at(tested, predicted, months)
        result[f"oe_competing_{months:g}"] = competing.observed_to_expected(tested, predicted, months)
        result[f"ici_competing_{months:g}"] = competing.ici(tested, predicted, months)
    result["ibs_competing"] = competing.integrated_brier(tested, incidence, horizons)
    result["ibs_skill_competing"] = competing.brier_skill(tested, incidence, horizons)
    return result


def _numbers(tested: CompetingOutcomes, incidence: FloatArray, horizons: FloatArray, draws: Draws) -> dict[str, Any]:
    return {
        name: comparison.interval(statistic, draws.matching(statistic)).as_dict()
        for name, statistic in statistics(tested, incidence, horizons).items()
    }


def _difference(
    tested: CompetingOutcomes, first: FloatArray, other: FloatArray, horizons: FloatArray, draws: Draws
) -> dict[str, Any]:
    """The evaluated model minus another one, on the same resamples: in C, and in the integrated Brier score."""
    pairs = [competing.c_index(tested, values[:, -1]) for values in (first, other)]
    errors = [competing.integrated_brier(tested, values, horizons) for values in (first, other)]
    c_difference = comparison.paired(pairs[0], pairs[1], draws.stratified)
    ibs_difference = comparison.paired(errors[0], errors[1], draws.unstratified)
    return {
        "c_difference": c_difference.interval.as_dict(),
        "c_p": comparison.finite(c_difference.p),
        "ibs_difference": ibs_difference.interval.as_dict(),
        "ibs_p": comparison.finite(ibs_difference.p),
    }


def group_curves(tested: CompetingOutcomes, groups: RiskGroups) -> tuple[GroupIncidence, ...]:
    """Aalen-Johansen curves of each risk group that has a test row."""
    curves = []
    for number, name in enumerate(groups.names):
        patients = tested.patient[groups.group == number]
        if patients.size:
            event, time = tested.by_event.event[patients], tested.by_event.time_months[patients]
            curves.append(
                GroupIncidence(name, len(patients), *competing.aalen_johansen(event, tested.competing[patients], time))
            )
    return tuple(curves)
