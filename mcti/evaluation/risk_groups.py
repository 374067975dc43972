"""Risk groups whose limits come from the training part of each fold, and how far their survival differs."""

import math
from dataclasses import dataclass

import numpy as np

from mcti.arrays import BoolArray, FloatArray, IntArray
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
    return RiskGroups(group, NAMES[groups], curves_of(outcomes, group, groups), log_rank(outcomes, group))


def curves_of(outcomes: Outcomes, group: IntArray, groups: int) -> tuple[KaplanMeier | None, ...]:
    """Kaplan-Meier curve in months of each of the `groups`; None for an empty one. group (m,) of every test row."""
    rows = [outcomes.patient[group == number] for number in range(groups)]
    return tuple(
        KaplanMeier.fit(outcomes.event[part], outcomes.time_months[part], outcomes.entries(part)) if len(part) else None
        for part in rows
    )


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
    if (entry := outcomes.entries(outcomes.patient)) is not None:
        return late_entry_log_rank(event, time, entry, group)
    try:
        return float(compare_survival(Surv.from_arrays(event, time), group)[1])
    except np.linalg.LinAlgError:  # the variance of a group is 0: it is never at risk together with another one
        return math.nan


def late_entry_log_rank(event: BoolArray, time_months: FloatArray, entry_months: FloatArray, group: IntArray) -> float:
    """p of the log-rank test with patients at risk in (entry, time]; scikit-survival has no entry times.

    Observed minus expected events of each group, with the hypergeometric variance at tied times (Mantel 1966; Andersen
    et al. 1993, Statistical Models Based on Counting Processes, section V.2). NaN where the variance is singular.
    event, time_months, entry_months, group (n,).
    """
    from scipy import stats

    names = np.unique(group)
    difference, variance = np.zeros(len(names)), np.zeros((len(names), len(names)))
    for months in np.unique(time_months[event]):
        at_risk = (entry_months < months) & (time_months >= months)
        died = event & (time_months == months)
        share = np.array([(group[at_risk] == name).mean() for name in names])
        total, deaths = int(at_risk.sum()), int(died.sum())
        difference += np.array([(group[died] == name).sum() for name in names]) - deaths * share
        factor = deaths * (total - deaths) / (total - 1) if total > 1 else 0.0
        variance += factor * (np.diag(share) - np.outer(share, share))
    try:
        statistic = float(difference[1:] @ np.linalg.solve(variance[1:, 1:], difference[1:]))
    except np.linalg.LinAlgError:
        return math.nan
    return float(stats.chi2.sf(statistic, len(names) - 1))
