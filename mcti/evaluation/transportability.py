"""Transportability: which part of a loss of C in a new cohort is due to its case mix.

A cohort of similar patients has a lower C than a varied one, even where the model is right. The model-based concordance
is the C that a right model would reach for given linear predictors. Its change from development to validation is the
part of the change of C that the case mix explains; the rest is due to the model: coefficients that do not apply, inputs
of another quality (van Klaveren et al. 2016, Stat. Med. 35:4136-4152; for a proportional hazards model the
model-based concordance is that of Gönen and Heller 2005, Biometrika 92:965-970).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mcti.arrays import FloatArray
from mcti.evaluation import comparison, metrics
from mcti.evaluation.comparison import Interval
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.statistics import PairBlock, PairMean
from mcti.model import cox


@dataclass(frozen=True)
class Side:
    """One cohort: risk (m,) of every test row, and its linear predictor (m,) on a scale that all rows share."""

    outcomes: Outcomes
    risk: FloatArray
    linear_predictor: FloatArray


def calibration_slope(side: Side) -> float:
    """Cox regression coefficient of the linear predictor: below 1 the predictions are too extreme. No unit.

    NaN without an event, or where all predictions are equal.
    """
    rows = side.outcomes.patient
    event, time = side.outcomes.event[rows], side.outcomes.time_months[rows]
    centred = side.linear_predictor - side.linear_predictor.mean()
    if not event.any() or centred.std() < 1e-9:
        return math.nan
    return float(cox.coefficients(centred[:, None], event, time, 0.0, side.outcomes.entries(rows))[0])


def expected_c(outcomes: Outcomes, linear_predictor: FloatArray) -> PairMean:
    """Model-based concordance: the C that a proportional hazards model with these predictors would have. 0.5 to 1.

    Mean over all pairs of patients of one fold of 1 / (1 + exp(-|difference of the linear predictors|)), the
    probability that the patient with the higher hazard has the event first. It uses no outcome and no censoring.
    linear_predictor (m,).
    """
    blocks = []
    for fold, part in outcomes.parts():
        rows = linear_predictor[part]
        score = 1 / (1 + np.exp(-np.abs(rows[:, None] - rows)))
        blocks.append(PairBlock(fold.patients, fold.patients, 1 - np.eye(len(rows)), score))
    return PairMean(tuple(blocks))


@dataclass(frozen=True)
class Decomposition:
    """The change of C from development to validation, as a loss: positive where the validation is worse.

    slope                          calibration slope of the development, which scales both linear predictors
    development_c, validation_c    Harrell's C;  development_expected, validation_expected  model-based concordance
    loss = case_mix + other        case_mix  loss of the model-based concordance;  other  the rest
    """

    slope: float
    development_c: Interval
    development_expected: Interval
    validation_c: Interval
    validation_expected: Interval
    loss: Interval
    case_mix: Interval
    other: Interval

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            name: value.as_dict() if isinstance(value, Interval) else comparison.finite(value)
            for name, value in vars(self).items()
        }


def decompose(development: Side, validation: Side, resamples: int, seed: int) -> Decomposition:
    """The decomposition with percentile intervals over independent resamples of both cohorts.

    The slope of the development corrects an overfitted spread of its linear predictors; it is not estimated again in a
    resample. resamples: number of draws.
    """
    slope = calibration_slope(development)
    values, points = {}, {}
    # The validation first: its C then has the interval of metrics.json, from the same resamples.
    for offset, (name, side) in enumerate({"validation": validation, "development": development}.items()):
        statistics = {
            "c": metrics.c_index(side.outcomes, side.risk),
            "expected": expected_c(side.outcomes, slope * side.linear_predictor),
        }
        draws = comparison.Draws.sample(side.outcomes.event, resamples, seed + offset, side.outcomes.tested).stratified
        for key, statistic in statistics.items():
            values[f"{name}_{key}"] = statistic(draws)
            points[f"{name}_{key}"] = np.array([comparison.point(statistic, draws.shape[1])])
    drawn, observed = _with_losses(values), _with_losses(points)
    intervals = {n: comparison.percentiles(float(observed[n][0]), drawn[n], comparison.CONFIDENCE) for n in observed}
    return Decomposition(slope=slope, **intervals)


def _with_losses(values: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    loss = values["development_c"] - values["validation_c"]
    case_mix = values["development_expected"] - values["validation_expected"]
    return {**values, "loss": loss, "case_mix": case_mix, "other": loss - case_mix}
