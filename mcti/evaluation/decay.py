"""Whether a model in use still ranks and calibrates: its predictions against outcomes that came in later.

Outcomes come late and cut short. Uno's C and the calibration are weighed for censoring; the horizon is one that
follow-up reaches; and where events reach the table with a delay, follow-up of the last months is cut for everybody,
events included: those without an event would otherwise look safe for no reason but a slow registry.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mcti.arrays import BoolArray, FloatArray
from mcti.evaluation import comparison, metrics
from mcti.evaluation.comparison import Interval
from mcti.evaluation.curves import KaplanMeier
from mcti.evaluation.outcomes import Fold, Outcomes
from mcti.params import MonitorParams

TAU_QUANTILE = 0.8
"""Uno's C counts events before this quantile of follow-up, as `mcti evaluate` does by default."""
STANDING = 10
"""A horizon counts as reached while so many patients are still under observation."""
SHOWN_EVENTS = 5
"""From so many events on Uno's C is reported with its interval; alarms need `min_events`."""


@dataclass(frozen=True)
class Decay:
    """What later outcomes say. loss: registered minus now; gap: observed minus predicted event probability at
    `horizon_months`; None where it cannot be told. alarms: sentences; why_not: why nothing was judged."""

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
    event: BoolArray, time_months: FloatArray, entry_months: FloatArray | None, delay_months: float
) -> tuple[BoolArray, BoolArray, FloatArray]:
    """Follow-up as it stood `delay_months` before the last contact in the table: (kept, event, time_months).

    entry_months (n,) calendar month of each patient's time zero, NaN where unknown; None: nothing is cut. Who entered
    later than the cut is left out whatever happened to them; an event after the cut becomes a censoring at the cut.
    """
    if entry_months is None:
        return np.ones(len(event), dtype=np.bool_), event, time_months
    cut = float(np.nanmax(entry_months + time_months)) - delay_months - entry_months
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
) -> Decay:
    """Uno's C against the registered one, and calibration in the large at one horizon.

    event, time_months, risk (n,), survival {months: (n,)} of patients that no model saw; registered: Uno's C of the
    evaluation with its 95 % interval, None where there is none. Both alarms together are false in at most
    1 - confidence of runs: each interval stands at half of that (Bonferroni).
    """
    events = int(event.sum())
    few = f"{events} events of new patients; {params.min_events} are needed" if events < params.min_events else ""
    if events < min(SHOWN_EVENTS, params.min_events):
        return Decay(len(event), events, not_assessed_reason=few)
    rows = np.arange(len(event))
    ids = tuple(map(str, rows))
    # Censoring weights from these patients themselves: the training part's follow-up does not travel with a model.
    tested = Outcomes(ids, event, time_months, (Fold(0, rows, rows, event, time_months, event, time_months),))
    level = 1 - (1 - params.confidence) / 2
    statistic = metrics.uno_c(tested, risk, TAU_QUANTILE)
    draws = comparison.resamples(event, params.bootstrap, params.seed)
    uno = comparison.interval(statistic, draws, params.confidence)
    if few:
        return Decay(len(event), events, uno, registered, not_assessed_reason=few)
    loss = _loss(uno.value, float(np.nanstd(statistic(draws))), registered, level)
    months, predicted, observed, gap = _calibration(event, time_months, survival, params.horizon_months, level)
    alarms = []
    if loss is not None and loss.low > params.c_margin:
        alarms.append(f"Uno's C fell by {loss.value:.3f} [{loss.low:.3f}, {loss.high:.3f}]")
    if gap is not None and max(gap.low, -gap.high) > params.calibration_margin:
        alarms.append(f"event probability at {months:g} months: {observed:.2f} observed, {predicted:.2f} predicted")
    bare = "" if loss or gap else "neither a registered Uno's C nor a horizon that follow-up reaches"
    return Decay(len(event), events, uno, registered, loss, months, predicted, observed, gap, tuple(alarms), bare)


def _loss(now: float, error: float, registered: Interval | None, level: float) -> Interval | None:
    from scipy import stats

    if registered is None or not all(map(math.isfinite, (now, error, *vars(registered).values()))):
        return None
    before = (registered.high - registered.low) / (2 * 1.959963984540054)
    half = float(stats.norm.ppf(0.5 + level / 2)) * math.hypot(before, error)
    lost = registered.value - now
    return Interval(lost, lost - half, lost + half)


def _calibration(
    event: BoolArray, time_months: FloatArray, survival: Mapping[float, FloatArray], wanted: float | None, level: float
) -> tuple[float | None, float | None, float | None, Interval | None]:
    """Horizon, mean predicted and Kaplan-Meier event probability there, their difference with Greenwood's interval."""
    from scipy import stats

    curve = KaplanMeier.fit(event, time_months)
    reached = [
        m for m in sorted(survival) if curve.number_at_risk(np.array([m]))[0] >= STANDING and wanted in (None, m)
    ]
    if not reached:
        return None, None, None, None
    months = reached[-1]
    predicted, observed = float(1 - survival[months].mean()), float(1 - curve.at(months))
    last = int(np.searchsorted(curve.times, months, side="right")) - 1
    half = float(stats.norm.ppf(0.5 + level / 2)) * math.sqrt(curve.variance[last]) if last >= 0 else 0.0
    gap = observed - predicted
    return months, predicted, observed, Interval(gap, gap - half, gap + half)
