"""One intercept and one slope for the mean curve of several models, from patients whom none of them was trained on.

The curves of single members are not calibrated one by one: the mean of calibrated curves spreads less than each of
them. All members have the same two numbers, which are those of the mean curve.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mcti.model.hazards import survival_at
from mcti.model.trained import Recalibration, TrainedModel, hazard_increments
from mcti.training import recalibration
from mcti.training.recalibration import HeldOutCurves


@dataclass(frozen=True)
class MemberCurves:
    """A member with its curves before any recalibration: S after each of its bins (n, B), one row per patient."""

    model: TrainedModel
    survival: Tensor

    def recalibrated(self, changed: Recalibration, months: Sequence[float]) -> Tensor:
        """S (n, h) at `months` with this recalibration."""
        return survival_at(changed(self.survival), self.model.fitted.edges, months, self.model.config.head)


def fit(
    members: Sequence[MemberCurves], time_months: Tensor, event: Tensor, entry_months: Tensor | None = None
) -> tuple[float, float]:
    """Intercept and slope of the log cumulative hazard of the mean curve of the members; 0 and 1 change nothing.

    Poisson likelihood of the events in the bins of the first member on the cumulative hazard of the mean curve, as in
    mcti/training/recalibration.py; follow-up later than the last bin of a member is not used. The slope is not below 0,
    which would reverse the ranking. time_months, event, entry_months (n,) of the patients of the curves.
    """
    from scipy import optimize

    edges = _common_edges(members)
    held_out = _censored(time_months, event, edges[-1])
    centres = [centre_of(member, time_months, event, entry_months) for member in members]
    exposed, ended = recalibration.exposure(HeldOutCurves(torch.empty(0), *held_out, entry_months), edges)
    if entry_months is not None:
        ended = ended * (entry_months < edges[-1])[:, None]

    def loss(pair: np.ndarray) -> float:
        curves = [
            member.recalibrated(Recalibration(float(pair[0]), float(pair[1]), centre), edges[1:])
            for member, centre in zip(members, centres, strict=True)
        ]
        hazard = hazard_increments(torch.stack(curves).mean(0))
        return float((exposed * hazard - ended * hazard.log()).sum())

    minimum = optimize.minimize(
        loss,
        x0=np.array([0.0, 1.0]),
        method="Nelder-Mead",
        bounds=[(None, None), (0.0, None)],
        # SciPy's own simplex has edges of 0.00025 for a start of 0.
        options={"initial_simplex": [[0.0, 1.0], [0.5, 1.0], [0.0, 0.5]], "xatol": 1e-8, "fatol": 1e-10},
    )
    return float(minimum.x[0]), float(minimum.x[1])


def _common_edges(members: Sequence[MemberCurves]) -> list[float]:
    """The edges of the first member up to the shortest follow-up of all members."""
    last = min(member.model.fitted.edges[-1] for member in members)
    return [*(edge for edge in members[0].model.fitted.edges if edge < last), last]


def _censored(time_months: Tensor, event: Tensor, last: float) -> tuple[Tensor, Tensor]:
    """Times and events with the follow-up ended at `last` months."""
    time = time_months.double()
    return time.clamp_max(last), event.bool() & (time <= last)


def centre_of(
    member: MemberCurves, time_months: Tensor, event: Tensor, entry_months: Tensor | None = None
) -> tuple[float, ...]:
    """(B,) mean log increment of each bin of a member over the exposed patients, as `Recalibration.centre`."""
    edges = member.model.fitted.edges
    exposed, _ = recalibration.exposure(
        HeldOutCurves(member.survival, *_censored(time_months, event, edges[-1]), entry_months), edges
    )
    logs = hazard_increments(member.survival).log()
    weight = exposed.sum(0)
    mean = torch.where(weight > 0, (logs * exposed).sum(0) / weight.clamp_min(1e-12), logs.mean(0))
    return tuple(mean.tolist())
