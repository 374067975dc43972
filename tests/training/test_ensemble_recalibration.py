"""Intercept and slope of the mean curve: recovered from simulated patients, and equal to those of one member."""

import dataclasses

import numpy as np
import pytest
import torch

from mcti.model.trained import Recalibration
from mcti.training import ensemble_recalibration, recalibration
from mcti.training.ensemble_recalibration import MemberCurves
from mcti.training.recalibration import HeldOutCurves

EDGES = (0.0, 12.0, 36.0, 60.0)


@dataclasses.dataclass(frozen=True)
class Model:
    """What the fit reads of a trained model."""

    edges: tuple[float, ...] = EDGES
    head: str = "continuous"

    @property
    def fitted(self):
        return self

    @property
    def config(self):
        return self


def simulated(count=4000, intercept=0.4, slope=0.6, seed=0):
    """Curves, and times whose log cumulative hazard per bin has this intercept and slope around the mean."""
    random = np.random.default_rng(seed)
    logs = np.log([0.2, 0.3, 0.3]) + random.standard_normal((count, 1))
    survival = torch.tensor(np.exp(-np.exp(logs).cumsum(1)))
    true = np.exp(intercept + logs.mean(0) + slope * (logs - logs.mean(0))).cumsum(1)
    hazard, edges = np.concatenate([np.zeros((count, 1)), true], axis=1), np.array(EDGES)
    drawn = random.exponential(size=count)
    time = np.array([np.interp(h, row, edges) for h, row in zip(drawn, hazard, strict=True)])
    return survival, torch.tensor(time), torch.tensor(drawn < true[:, -1])


def test_the_numbers_of_the_simulation_are_recovered():
    """The slope, and the mean shift of the log hazards 0.2, 0.3 and 0.3, whatever the centre is."""
    survival, time, event = simulated()
    member = MemberCurves(Model(), survival)
    intercept, slope = ensemble_recalibration.fit([member], time, event)
    centre = np.array(ensemble_recalibration.centre_of(member, time, event))
    logs = np.log([0.2, 0.3, 0.3])
    assert slope == pytest.approx(0.6, abs=0.06)
    assert np.mean(intercept + centre + slope * (logs - centre) - logs) == pytest.approx(0.4, abs=0.06)


def test_one_member_has_the_numbers_of_the_recalibration_in_training():
    """Oracle: the fit of mcti/training/recalibration.py, by Newton's method on the profile likelihood."""
    survival, time, event = simulated(count=400)
    expected = recalibration.fit(HeldOutCurves(survival, time, event), EDGES)
    fitted = ensemble_recalibration.fit([MemberCurves(Model(), survival)], time, event)
    assert fitted == pytest.approx((expected.intercept, expected.slope), abs=1e-5)
    centre = ensemble_recalibration.centre_of(MemberCurves(Model(), survival), time, event)
    assert centre == pytest.approx(expected.centre, abs=1e-12)


def test_the_mean_of_different_members_is_calibrated():
    """Two members with independent errors: the mean spreads less than each, so that the slope is larger."""
    survival, time, event = simulated(intercept=0.0, slope=1.0)
    random = np.random.default_rng(1)
    noisy = [survival ** torch.tensor(np.exp(random.standard_normal((len(survival), 1)))) for _ in range(2)]
    members = [MemberCurves(Model(), curves) for curves in noisy]
    intercept, slope = ensemble_recalibration.fit(members, time, event)
    alone = ensemble_recalibration.fit(members[:1], time, event)
    assert slope > alone[1]
    changed = [
        member.recalibrated(
            Recalibration(intercept, slope, ensemble_recalibration.centre_of(member, time, event)), EDGES[1:]
        )
        for member in members
    ]
    expected = -torch.stack(changed).mean(0)[:, -1].log()
    assert float(expected.clamp_max(50).mean()) > 0
    observed = float(event.double().mean())
    assert float((1 - torch.stack(changed).mean(0)[:, -1]).mean()) == pytest.approx(observed, abs=0.03)


def test_follow_up_beyond_the_last_bin_is_not_used():
    survival, time, event = simulated(count=400)
    later = torch.where(event, time, time + 100.0)
    same = [ensemble_recalibration.fit([MemberCurves(Model(), survival)], months, event) for months in (time, later)]
    assert same[0] == pytest.approx(same[1], abs=1e-6)


def test_a_reversed_ranking_gives_slope_0():
    survival, time, event = simulated(slope=-0.5)
    assert ensemble_recalibration.fit([MemberCurves(Model(), survival)], time, event)[1] == pytest.approx(0, abs=1e-6)


def test_late_entry_does_not_lower_the_level():
    """The curves are right, and half of the patients enter late: the level is 0 with entries, below it without."""
    survival, time, event = simulated(count=6000, intercept=0.0, slope=1.0)
    drawn = np.random.default_rng(1).uniform(0, 40, 6000)
    entry = torch.from_numpy(np.where(np.arange(6000) % 2, drawn, 0.0))
    kept = time > entry
    members = [MemberCurves(Model(), survival[kept])]
    assert ensemble_recalibration.fit(members, time[kept], event[kept], entry[kept])[0] == pytest.approx(0, abs=0.06)
    assert ensemble_recalibration.fit(members, time[kept], event[kept])[0] < -0.12
