"""Risk groups whose limits come from the training part of each fold, and how far their survival differs."""

import math
from dataclasses import dataclass

import numpy as np

from mcti.arrays import FloatArray, IntArray
from mcti.evaluation.curves import KaplanMeier
from mcti.evaluation.outcomes import Outcomes

NAMES = {2: ("low", "high"), 3: ("low", "middle", "high"), 4: ("low", "lower middle", "upper middle", "high")}


@dataclass(frozen=True)
class RiskGroups:
    """Risk groups of all test rows.

    group (m,)   of every test row, 0 = lowest risk
    names, curves  of each group; a curve is None where the group is empty
    p            of the log-rank test between the groups; NaN where it is not defined
    """

    group: IntArray
    names: tuple[str, ...]
    curves: tuple[KaplanMeier | None, ...]
    p: float

    def sizes(self) -> list[int]:
        """Number of test rows in each group."""
        return [int((self.group == g).sum()) for g in range(len(self.names))]


def standardise_within_fold(outcomes: Outcomes, risk: FloatArray) -> FloatArray:
    """(m,) risks scaled to mean 0 and standard deviation 1 inside each fold; 0 in a fold where all risks are equal.

    The risks of different models are on different scales. Only risks are used, no outcome. risk (m,).
    """
    scaled = np.zeros(len(risk))
    for _, part in outcomes.parts():
        sd = risk[part].std()
        if sd > 0:
            scaled[part] = (risk[part] - risk[part].mean()) / sd
    return scaled


def assign(outcomes: Outcomes, risk: FloatArray, groups: int) -> IntArray:
    """(m,) risk group of every test row, by limits that do not depend on the row's own fold.

    The limits of fold k are quantiles of the standardised *out-of-fold* risks of the training patients of fold k: the
    model that scored each of them was trained without them.

    Trap: in-sample risks of the training part would be overfitted and their quantiles too far apart. Only a fold whose
    training patients are not tested in another fold uses the quantiles of its own test risks. risk (m,).
    """
    scaled = standardise_within_fold(outcomes, risk)
    group = np.zeros(len(risk), dtype=np.int64)
    shares = np.arange(1, groups) / groups
    for fold, part in outcomes.parts():
        outside_fold = ~np.isin(outcomes.patient, fold.patients)
        basis = scaled[outside_fold] if outside_fold.any() else scaled[part]
        group[part] = np.searchsorted(np.quantile(basis, shares), scaled[part], side="left")
    return group


def form_groups(outcomes: Outcomes, risk: FloatArray, groups: int) -> RiskGroups:
    """2, 3 or 4 risk groups with their Kaplan-Meier curves over all test rows and the log-rank test; risk (m,)."""
    group = assign(outcomes, risk, groups)
    event, time = outcomes.event[outcomes.patient], outcomes.time_months[outcomes.patient]
    curves = tuple(
        KaplanMeier.fit(event[group == g], time[group == g]) if (group == g).any() else None for g in range(groups)
    )
    return RiskGroups(group, NAMES[groups], curves, log_rank(outcomes, group))


def log_rank(outcomes: Outcomes, group: IntArray) -> float:
    """p of the log-rank test between groups, chi-square with groups - 1 degrees of freedom (Mantel 1966).

    NaN with a single group, without events, where a group is at risk at no event together with another one, or with
    repeated folds: the rows of one patient are not independent. group (m,).
    """
    from sksurv.compare import compare_survival
    from sksurv.util import Surv

    event, time = outcomes.event[outcomes.patient], outcomes.time_months[outcomes.patient]
    repeated = len(np.unique(outcomes.patient)) < len(outcomes.patient)
    if repeated or len(np.unique(group)) < 2 or not event.any():
        return math.nan
    try:
        return float(compare_survival(Surv.from_arrays(event, time), group)[1])
    except np.linalg.LinAlgError:  # the variance of a group is 0: it is never at risk together with another one
        return math.nan
