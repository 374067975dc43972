"""Follow-up as counts and curves: event tables, Kaplan-Meier, and the reverse Kaplan-Meier of the follow-up itself."""

from dataclasses import dataclass

import numpy as np

from mcti.arrays import BoolArray, FloatArray, IntArray

ROUNDING = 1e-9  # a running product of k ratios has an error of about k machine epsilons


@dataclass(frozen=True)
class EventTable:
    """One row per distinct time (t,): months, patients at risk just before it, events and censorings at it."""

    months: FloatArray
    at_risk: IntArray
    events: IntArray
    censored: IntArray


def event_table(time_months: FloatArray, event: BoolArray, entry_months: FloatArray | None = None) -> EventTable:
    """The event table of n patients. time_months (n,), event (n,) true where the event was observed.

    entry_months    (n,) entry under observation: a patient is at risk in (entry, time]; None: from the origin
    """
    months, position = np.unique(time_months, return_inverse=True)
    ends = np.bincount(position, minlength=len(months))  # events and censorings
    events = np.bincount(position, weights=event, minlength=len(months)).astype(np.int64)
    at_risk = ends[::-1].cumsum()[::-1]
    if entry_months is not None:
        at_risk = at_risk - (len(entry_months) - np.searchsorted(np.sort(entry_months), months, side="left"))
    return EventTable(months, at_risk.astype(np.int64), events, (ends - events).astype(np.int64))


def kaplan_meier(
    time_months: FloatArray, event: BoolArray, entry_months: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Times (t,) and the share (t,) without event after each time; S(t) = prod over u <= t of (1 - d_u / n_u).

    d_u: events at time u;  n_u: patients at risk just before u, from their entry_months (n,) on (None: the origin).
    Kaplan and Meier, Journal of the American Statistical Association 53 (1958) 457-481.
    """
    table = event_table(time_months, event, entry_months)
    # The risk set of an event is empty only in a table that breaks the contract (entry after the end of follow-up).
    share = np.divide(table.events, table.at_risk, out=np.zeros(len(table.months)), where=table.at_risk > 0)
    return table.months, np.cumprod(1 - share, dtype=np.float64)


def reverse_kaplan_meier(
    time_months: FloatArray, event: BoolArray, entry_months: FloatArray | None = None
) -> tuple[FloatArray, FloatArray]:
    """Times (t,) and the share (t,) of patients still followed: Kaplan-Meier with events and censorings exchanged.

    An event ends the observation but not the potential follow-up, so it counts as censored here.
    Schemper and Smith, Controlled Clinical Trials 17 (1996) 343-346.
    """
    return kaplan_meier(time_months, ~event, entry_months)


def median_followup(time_months: FloatArray, event: BoolArray, entry_months: FloatArray | None = None) -> float:
    """Median follow-up in months (reverse Kaplan-Meier): the first time after which at most half are still followed.

    NaN where the curve does not reach a half: more than half of the patients had an event late in the observation.
    """
    months, share = reverse_kaplan_meier(time_months, event, entry_months)
    reached = np.flatnonzero(share <= 0.5 + ROUNDING)
    return float(months[reached[0]]) if len(reached) else float("nan")


def lateness(time_months: FloatArray, event: BoolArray) -> tuple[float, float]:
    """Probability that an event is later than a censoring, and its one-sided p-value (Mann-Whitney).

    Events end the follow-up early, so the probability is below a half in most cohorts; inverted flags mirror it
    above a half. NaN where all patients or no patients are censored.
    """
    from scipy.stats import mannwhitneyu

    if event.all() or not event.any():
        return float("nan"), float("nan")
    test = mannwhitneyu(time_months[event], time_months[~event], alternative="greater")
    return float(test.statistic / (event.sum() * (~event).sum())), float(test.pvalue)
