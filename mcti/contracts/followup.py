"""Follow-up as counts and curves: event tables, Kaplan-Meier, and the reverse Kaplan-Meier of the follow-up itself."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ROUNDING = 1e-9  # a running product of k ratios is off by about k machine epsilons


@dataclass(frozen=True)
class EventTable:
    """One row a distinct time (t,): months, patients at risk just before, events and censorings at it."""

    months: Floats
    at_risk: Ints
    events: Ints
    censored: Ints


def event_table(time_months: Floats, event: Bools) -> EventTable:
    """The event table of n patients. time_months (n,), event (n,) true where the event was seen."""
    months, position = np.unique(time_months, return_inverse=True)
    leaving = np.bincount(position, minlength=len(months))
    events = np.bincount(position, weights=event, minlength=len(months)).astype(np.int64)
    at_risk = leaving[::-1].cumsum()[::-1]
    return EventTable(months, at_risk.astype(np.int64), events, (leaving - events).astype(np.int64))


def kaplan_meier(time_months: Floats, event: Bools) -> tuple[Floats, Floats]:
    """Times (t,) and the share (t,) still without event after each; S(t) = prod over u <= t of (1 - d_u / n_u).

    Kaplan and Meier, Journal of the American Statistical Association 53 (1958) 457-481.
    """
    table = event_table(time_months, event)
    return table.months, np.cumprod(1 - table.events / table.at_risk, dtype=np.float64)


def reverse_kaplan_meier(time_months: Floats, event: Bools) -> tuple[Floats, Floats]:
    """Share of patients still followed: Kaplan-Meier with events and censorings changed over.

    An event ends the watch but not the follow-up, so it counts as censored here.
    Schemper and Smith, Controlled Clinical Trials 17 (1996) 343-346.
    """
    return kaplan_meier(time_months, ~event)


def median_followup(time_months: Floats, event: Bools) -> float:
    """Reverse Kaplan-Meier median in months: the first time at which at most half are still followed.

    NaN where it is not reached: more than half of the patients were followed to an event at the end of observation.
    """
    months, share = reverse_kaplan_meier(time_months, event)
    below = np.flatnonzero(share <= 0.5 + ROUNDING)
    return float(months[below[0]]) if len(below) else float("nan")


def lateness(time_months: Floats, event: Bools) -> tuple[float, float]:
    """Chance that an event comes later than a censoring, and its one-sided p-value (Mann-Whitney).

    Events end the follow-up early, so the chance is below a half in most cohorts; flags the wrong way round mirror it
    to above. NaN with all or none censored.
    """
    from scipy.stats import mannwhitneyu

    if event.all() or not event.any():
        return float("nan"), float("nan")
    test = mannwhitneyu(time_months[event], time_months[~event], alternative="greater")
    return float(test.statistic / (event.sum() * (~event).sum())), float(test.pvalue)
