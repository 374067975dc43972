"""Whether event 1 means that the event was observed: log likelihood ratio of the flags as written and inverted.

Three parts are summed (docs/cohort.md, "Orientation of the event flag"). Each changes its sign when the flags are
inverted, so a table and its inverted version never both pass.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcti.arrays import BoolArray, FloatArray
from mcti.contracts.followup import ROUNDING, kaplan_meier, lateness, reverse_kaplan_meier

MIN_LOG_RATIO = 0.5
"""Log likelihood ratio at which the flags are accepted (odds of 5 to 3); below it, the user must confirm them."""

EVENT_SHARE = {"OS": 0.30, "DSS": 0.21, "DFI": 0.20, "PFI": 0.36, "DMFS": 0.27}
"""Assumed typical share of events of a cancer cohort by end point: fewer patients die of the disease than of any cause,
fewer relapse after complete remission than progress."""
EVENT_SHARE_SD = 1.3  # sd of the logit of the share between cohorts: two sd around 0.30 are 0.03 to 0.85
MAX_SHARE_LOG_RATIO = 2.0  # the tails of the normal distribution would overstate a very high or low share

KNOWN_OS_SHARE = {
    "TCGA-BLCA": 0.45,
    "TCGA-BRCA": 0.13,
    "TCGA-GBM": 0.83,
    "TCGA-HNSC": 0.47,
    "TCGA-LGG": 0.23,
    "TCGA-LUAD": 0.35,
    "TCGA-LUSC": 0.43,
}
"""Share of deaths of these TCGA projects, counted in the tables that PORPOISE published."""
KNOWN_SHARE_SD = 0.5  # sd of the logit between releases and selections of one project
MAX_KNOWN_SHARE_LOG_RATIO = 4.0

LATENESS, LATENESS_SD = 0.33, 0.17
"""Probability that an event is later than a censoring: mean and sd over tables with correct flags (docs/cohort.md)."""

FOLLOWUP = 1.1
"""log 3: where one of the two curves reaches a half, it is the reverse Kaplan-Meier curve in three of four cohorts."""


@dataclass(frozen=True)
class Orientation:
    """Parts of the log likelihood ratio: share of events, order of times, medians reached. Above 0: as written."""

    share: float
    order: float
    followup: float

    @property
    def total(self) -> float:
        """The log likelihood ratio, no unit."""
        return self.share + self.order + self.followup

    def question(self) -> str | None:
        """The question to the user, with the numbers; None where the flags are accepted."""
        if self.total >= MIN_LOG_RATIO:
            return None
        result = "is probably inverted" if self.total <= -MIN_LOG_RATIO else "is ambiguous"
        parts = f"share of events {self.share:+.1f}, order of times {self.order:+.1f}, medians {self.followup:+.1f}"
        return f"event {result}: log likelihood ratio {self.total:+.1f} ({parts}), {MIN_LOG_RATIO:g} is needed"


def orientation(
    time_months: FloatArray,
    event: BoolArray,
    endpoint: str,
    cohorts: Sequence[str],
    entry_months: FloatArray | None = None,
) -> Orientation:
    """The log likelihood ratio of the event flags as written and inverted, in its parts.

    time_months (n,);  event (n,) true where the flag is 1;  endpoint: a key of EVENT_SHARE;  cohorts (n,): study of
    each patient;  entry_months (n,): entry under observation, None: the origin. All parts are 0 for a table without
    events or without censorings.
    """
    if event.all() or not event.any():
        return Orientation(0.0, 0.0, 0.0)
    return Orientation(_share(float(event.mean()), endpoint, cohorts), _order(time_months, event),
                       _followup(time_months, event, entry_months))  # fmt: skip


def _share(share: float, endpoint: str, cohorts: Sequence[str]) -> float:
    """log N(logit p; m, s) - log N(logit(1 - p); m, s) = 2 m logit(p) / s², clipped to its limits."""
    if endpoint == "OS" and set(cohorts) <= KNOWN_OS_SHARE.keys():
        typical = float(np.mean([KNOWN_OS_SHARE[name] for name in cohorts]))
        sd, limit = KNOWN_SHARE_SD, MAX_KNOWN_SHARE_LOG_RATIO
    else:
        typical, sd, limit = EVENT_SHARE[endpoint], EVENT_SHARE_SD, MAX_SHARE_LOG_RATIO
    return float(np.clip(2 * _logit(typical) * _logit(share) / sd**2, -limit, limit))


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _order(time_months: FloatArray, event: BoolArray) -> float:
    """The same ratio for the probability p of late events, which becomes 1 - p when the flags are inverted.

    Its sampling variance (Mann-Whitney, without ties) is added: with few events or censorings the ratio is near 0.
    """
    late, _ = lateness(time_months, event)
    sampling = (len(event) + 1) / (12 * event.sum() * (~event).sum())
    return float(2 * (LATENESS - 0.5) * (late - 0.5) / (LATENESS_SD**2 + sampling))


def _followup(time_months: FloatArray, event: BoolArray, entry_months: FloatArray | None) -> float:
    """FOLLOWUP where the follow-up reaches its median and the survival does not; -FOLLOWUP in the reverse case."""
    curves = (curve(time_months, event, entry_months) for curve in (reverse_kaplan_meier, kaplan_meier))
    # Products of n factors: rounding may keep a curve that falls to exactly a half just above it.
    followed, survived = (bool(share.min() <= 0.5 + ROUNDING) for _, share in curves)
    return FOLLOWUP * (followed - survived)
