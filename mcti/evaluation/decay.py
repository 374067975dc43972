"""Performance of a model in use on outcomes that became known after its registration: discrimination and calibration.

Such outcomes are incomplete: follow-up is short and censored. Uno's C and the calibration are weighted for censoring,
and the horizon is one that the follow-up reaches. Where events are entered into the table with a delay, the follow-up
of the last months is removed for all patients, events included: patients without an entered event would otherwise
appear event-free only because the registry is slow.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mcti.arrays import BoolArray, FloatArray
from mcti.evaluation import comparison, metrics
from mcti.evaluation.calibration import weighted_status
from mcti.evaluation.comparison import Interval
from mcti.evaluation.curves import Z_95, KaplanMeier
from mcti.evaluation.outcomes import Fold, Outcomes
from mcti.params import MonitorParams

MIN_AT_RISK = 10
"""A horizon is reached while at least this many patients are still under observation."""
MIN_REPORTED_EVENTS = 5
"""With at least this many events Uno's C is reported with its interval; alarms need `min_events`."""


@dataclass(frozen=True)
class Decay:
    """Performance on later outcomes; None where a number cannot be estimated.

    entry_months (n,)  entry under observation (left truncation), None: all are observed from the origin
    registered   Uno's C of the evaluation at registration;  loss  registered C minus current C
    gap          observed minus predicted event probability at `horizon_months`
    alarms       one sentence per alarm;  not_assessed_reason  why there is no assessment, empty where there is one
    """

    patients: int
    events: int
    uno_c: Interval | None = None
    registered: Interval | None = None
    loss: Interval | None = None
    horizon_months: float | None = None
    predicted: float | None = None
    observed: float | None = None
    gap: Interval | None = None
    alarms: tuple[str, ...] = ()
    not_assessed_reason: str = ""


def mature_follow_up(
    event: BoolArray, time_months: FloatArray, calendar_months: FloatArray | None, delay_months: float
) -> tuple[BoolArray, BoolArray, FloatArray]:
    """Follow-up as it was `delay_months` before the last contact in the table: (kept, event, time_months).

    calendar_months (n,)  calendar month of time zero of each patient, NaN where unknown; None: nothing is cut
    kept (n,)          false for patients who entered after the cut, whatever their outcome
    event, time_months of the kept patients; an event after the cut becomes a censoring at the cut.
    """
    if calendar_months is None:
        return np.ones(len(event), dtype=np.bool_), event, time_months
    cut = float(np.nanmax(calendar_months + time_months)) - delay_months - calendar_months
    kept = np.asarray(np.isfinite(cut) & (cut > 0), dtype=np.bool_)
    inside = event & (time_months <= cut)
    return kept, inside[kept], np.minimum(time_months, cut)[kept]


def assess(
    event: BoolArray,
    time_months: FloatArray,
    risk: FloatArray,
    survival: Mapping[float, FloatArray],
    registered: Interval | None,
    params: MonitorParams,
    entry_months: FloatArray | None = None,
) -> Decay:
    """Compare Uno's C with the registered one, and check calibration in the large at one horizon.

    event, time_months, risk (n,), survival {months: (n,)}   of patients that no model was trained on
    registered   Uno's C of the evaluation with its 95 % interval, None without an evaluation

    In at most 1 - `confidence` of the runs there is a false alarm: each of the two intervals has half of that error
    (Bonferroni).
    """
    events = int(event.sum())
    too_few = f"{events} events of new patients; {params.min_events} are needed" if events < params.min_events else ""
    if events < min(MIN_REPORTED_EVENTS, params.min_events):
        return Decay(len(event), events, not_assessed_reason=too_few)
    level = 1 - (1 - params.confidence) / 2
    outcomes = _one_fold(event, time_months, entry_months)
    statistic = metrics.uno_c(outcomes, risk)
    draws = comparison.resamples(event, params.bootstrap, comparison.SEED)
    uno = comparison.interval(statistic, draws, params.confidence)
    if too_few:
        return Decay(len(event), events, uno, registered, not_assessed_reason=too_few)
    loss = _loss(uno.value, float(np.nanstd(statistic(draws))), registered, level)
    months, predicted, observed, gap = _calibration(outcomes, survival, level)
    alarms = []
    if loss is not None and loss.low > params.c_margin:
        alarms.append(f"Uno's C fell by {loss.value:.3f} [{loss.low:.3f}, {loss.high:.3f}]")
    if gap is not None and max(gap.low, -gap.high) > params.calibration_margin:
        alarms.append(f"event probability at {months:g} months: {observed:.2f} observed, {predicted:.2f} predicted")
    reason = "" if loss or gap else "neither a registered Uno's C nor a horizon that follow-up reaches"
    return Decay(len(event), events, uno, registered, loss, months, predicted, observed, gap, tuple(alarms), reason)


def _one_fold(event: BoolArray, time_months: FloatArray, entry_months: FloatArray | None) -> Outcomes:
    """All patients as one fold; the censoring weights come from these patients, because a model has no follow-up."""
    rows = np.arange(len(event))
    fold = Fold(0, rows, rows, event, time_months, event, time_months, entry_months, entry_months)
    return Outcomes(tuple(map(str, rows)), event, time_months, (fold,), entry_months)


def _loss(current: float, error: float, registered: Interval | None, level: float) -> Interval | None:
    """Registered minus current C with a normal interval; error: standard error of the current C."""
    from scipy import stats

    if registered is None or not all(map(math.isfinite, (current, error, *vars(registered).values()))):
        return None
    registered_error = (registered.high - registered.low) / (2 * Z_95)
    half = float(stats.norm.ppf(0.5 + level / 2)) * math.hypot(registered_error, error)
    loss = registered.value - current
    return Interval(loss, loss - half, loss + half)


def _calibration(
    outcomes: Outcomes, survival: Mapping[float, FloatArray], level: float
) -> tuple[float | None, float | None, float | None, Interval | None]:
    """Longest horizon that the follow-up reaches, the mean predicted and the Kaplan-Meier event probability there, and
    their difference with Greenwood's interval.
    """
    from scipy import stats

    curve = KaplanMeier.fit(outcomes.event, outcomes.time_months, outcomes.entry_months)
    reached = [months for months in sorted(survival) if curve.number_at_risk(np.array([months]))[0] >= MIN_AT_RISK]
    if not reached:
        return None, None, None, None
    months = reached[-1]
    predicted, observed = float(1 - survival[months].mean()), float(1 - curve.at(months))
    if outcomes.entry_months is not None:  # patients of high risk are rarer in the table than at the origin
        predicted = float(np.average(1 - survival[months], weights=weighted_status(outcomes, months).weight))
    last = int(np.searchsorted(curve.times, months, side="right")) - 1
    half = float(stats.norm.ppf(0.5 + level / 2)) * math.sqrt(curve.variance[last]) if last >= 0 else 0.0
    gap = observed - predicted
    return months, predicted, observed, Interval(gap, gap - half, gap + half)
