"""Net benefit: what treating by the predicted risk gains over treating no patient, by threshold."""

from dataclasses import dataclass

import numpy as np

from mcti.arrays import BoolArray, FloatArray
from mcti.evaluation.calibration import WeightedStatus, weighted_status
from mcti.evaluation.outcomes import Outcomes
from mcti.evaluation.statistics import safe_ratio


@dataclass(frozen=True)
class NetBenefit:
    """True positives minus weighted false positives per patient when all with risk >= threshold are treated.

    = P(treated and event) - P(treated and no event) * threshold / (1 - threshold); higher is better, 0 is treating no
    patient (Vickers and Elkin 2006, Med. Decis. Making 26:565-574; weighted for censoring).

    Trap: a model is useful at a threshold only where its net benefit is above 0 *and* above that of treating all
    patients.

    treated (m,);  threshold in (0, 1), an event probability
    """

    status: WeightedStatus
    treated: BoolArray
    threshold: float

    def __call__(self, draws: FloatArray) -> FloatArray:
        """draws (count, n) -> (count,)."""
        counts = draws[:, self.status.patient]
        odds = self.threshold / (1 - self.threshold)
        gain = np.where(self.status.had == 1, 1.0, -odds) * self.status.weight * self.treated
        return safe_ratio(counts @ gain, counts.sum(axis=1))


def net_benefit(outcomes: Outcomes, survival: FloatArray, months: float, threshold: float) -> NetBenefit:
    """Net benefit of treating patients with 1 - S(months) >= threshold; survival (m,). S = 0 means treating all."""
    return NetBenefit(weighted_status(outcomes, months), 1 - survival >= threshold, threshold)
