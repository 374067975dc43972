"""Risk groups and percentiles of an ensemble: a risk on the scale of the members that predicted it (docs/registry.md).

The risks of two members are not comparable, so each threshold is computed on the scale of the members in question.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mcti.errors import DataError
from mcti.model.reference_profile import ReferenceProfile

GROUPS = {
    2: ("low", "high"),
    3: ("low", "intermediate", "high"),
    4: ("lowest", "low", "high", "highest"),
}
"""Names of the risk groups by their number, lowest risk first."""


@dataclass(frozen=True)
class RiskScale:
    """Quantiles of the risks of unseen patients.

    profiles         reference profile of each member
    default_members  members that predict new patients; empty: all of them
    """

    profiles: Mapping[str, ReferenceProfile]
    default_members: tuple[str, ...]

    def group(self, risks: Mapping[str, float], groups: int) -> str | None:
        """The risk group of one patient; None for a model without reference profiles.

        risks   {member: risk}, no unit, of each member that predicted the patient;  groups  2, 3 or 4

        Raises DataError for another number of groups.
        """
        names = GROUPS.get(groups)
        if names is None:
            raise DataError(f"{groups} risk groups", "risk_groups", f"one of {', '.join(map(str, GROUPS))}")
        mean = math.fsum(risks.values()) / len(risks)
        thresholds = [self.threshold(tuple(risks), k / groups) for k in range(1, groups)]
        if any(math.isnan(threshold) for threshold in thresholds):
            return None
        return names[sum(mean > threshold for threshold in thresholds)]

    def percentile(self, members: tuple[str, ...], risk: float, levels: int = 100) -> float | None:
        """Share in % of unseen development patients with a risk below `risk`, in steps of 100 / levels.

        members  the members that predicted the patient;  None for a model without reference profiles
        """
        thresholds = [self.threshold(members, k / levels) for k in range(1, levels)]
        if any(math.isnan(threshold) for threshold in thresholds):
            return None
        return 100.0 * sum(risk > threshold for threshold in thresholds) / levels

    def threshold(self, members: Sequence[str], level: float) -> float:
        """The risk below which a share `level` of unseen patients is expected, mean over the members; NaN: unknown.

        For a fold it is the quantile of its out-of-fold risks. A refit has no test patients. The risks of its training
        patients spread too widely, and the thresholds of the folds are on another scale. Therefore each fold gives the
        share of its *training* patients below its out-of-fold quantile, and the refit takes the quantile of its own
        training risks at the mean of these shares.
        """
        if not set(members) <= self.profiles.keys():
            return math.nan
        if set(members) <= set(self.default_members):
            folds = [profile for name, profile in self.profiles.items() if name not in self.default_members]
            level = math.fsum(profile.level_out_of_fold(level) for profile in folds) / len(folds)
            quantiles = [self.profiles[name].training_risk.quantile(level) for name in members]
        else:
            quantiles = [self.profiles[name].risk.quantile(level) for name in members]
        return math.fsum(quantiles) / len(members)
