"""Whether event 1 means that the event was observed: a log likelihood ratio, flags as given against inverted flags.

Three parts are summed (docs/cohort.md, "Orientation of the event flag"). Each changes its sign when the flags are
inverted, so a table and its inverted version never pass both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcti.contracts.followup import Bools, Floats, kaplan_meier, lateness, reverse_kaplan_meier

ACCEPTED = 0.5
"""Natural log of the likelihood ratio from which the flags are taken as given (odds of 5 to 3); below: a question."""

EVENT_SHARE = {"OS": 0.30, "DSS": 0.21, "DFI": 0.20, "PFI": 0.36, "DMFS": 0.27}
"""Assumed typical share of events of a cancer cohort by end point: fewer patients die of the disease than die, fewer
relapse after complete remission than progress."""
EVENT_SHARE_SD = 1.3  # of the logit of the share between cohorts: 0.03 to 0.85 is within two of them
MOST_OF_SHARE = 2.0  # normal tails would overstate a very high or low share

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
KNOWN_SHARE_SD = 0.5  # of the logit: other releases and selections of the same project
MOST_OF_KNOWN_SHARE = 4.0

LATENESS, LATENESS_SD = 0.33, 0.17
"""Chance that an event comes later than a censoring: mean and sd over tables with right flags (docs/cohort.md)."""

FOLLOWUP = 1.1
"""log 3: of two curves of which one reaches a half, it is the reverse Kaplan-Meier curve three times as often."""


@dataclass(frozen=True)
class Orientation:
    """Parts of the log likelihood ratio: share of events, order of times, medians reached. Above 0: flags as given."""

    share: float
    order: float
    followup: float

    @property
    def total(self) -> float:
        """The log likelihood ratio."""
        return self.share + self.order + self.followup

    def question(self) -> str | None:
        """What to ask; None where the flags are accepted."""
        if self.total >= ACCEPTED:
            return None
        verdict = "looks inverted" if self.total <= -ACCEPTED else "is ambiguous"
        parts = f"share of events {self.share:+.1f}, order of times {self.order:+.1f}, medians {self.followup:+.1f}"
        return f"event {verdict}: log likelihood ratio {self.total:+.1f} ({parts}), {ACCEPTED:g} is needed"


def orientation(time_months: Floats, event: Bools, endpoint: str, cohorts: Sequence[str]) -> Orientation:
    """The evidence on the orientation of the event flag.

    time_months (n,), event (n,) true where the flag is 1; endpoint one of EVENT_SHARE; cohorts (n,) study of each
    patient. A table without events, or without censorings, tells nothing.
    """
    if event.all() or not event.any():
        return Orientation(0.0, 0.0, 0.0)
    return Orientation(_share(float(event.mean()), endpoint, cohorts), _order(time_months, event),
                       _followup(time_months, event))  # fmt: skip


def _share(share: float, endpoint: str, cohorts: Sequence[str]) -> float:
    """log N(logit p; m, s) - log N(logit(1 - p); m, s) = 2 m logit(p) / s², cut at its limits."""
    if endpoint == "OS" and set(cohorts) <= KNOWN_OS_SHARE.keys():
        typical = float(np.mean([KNOWN_OS_SHARE[name] for name in cohorts]))
        sd, most = KNOWN_SHARE_SD, MOST_OF_KNOWN_SHARE
    else:
        typical, sd, most = EVENT_SHARE[endpoint], EVENT_SHARE_SD, MOST_OF_SHARE
    return float(np.clip(2 * _logit(typical) * _logit(share) / sd**2, -most, most))


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _order(time_months: Floats, event: Bools) -> float:
    """The same for the chance of late events, which becomes 1 - itself when the flags are inverted.

    Its sampling variance (Mann-Whitney, without ties) is added: few events or censorings tell little.
    """
    late, _ = lateness(time_months, event)
    sampling = (len(event) + 1) / (12 * event.sum() * (~event).sum())
    return float(2 * (LATENESS - 0.5) * (late - 0.5) / (LATENESS_SD**2 + sampling))


def _followup(time_months: Floats, event: Bools) -> float:
    """Above 0 where the follow-up has a median and the survival has none; below 0 where it is the other way round."""
    curves = (reverse_kaplan_meier(time_months, event), kaplan_meier(time_months, event))
    # Products of n factors: a curve that falls to exactly a half may miss it by rounding.
    followed, survived = (bool(share.min() <= 0.5 + 1e-9) for _, share in curves)
    return FOLLOWUP * (followed - survived)
