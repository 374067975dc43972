"""Oracles: real tables with documented flags (TCGA, data sets of scikit-survival) and cases computed manually."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sksurv.datasets

from mcti.contracts.orientation import KNOWN_OS_SHARE, MIN_LOG_RATIO, orientation

TCGA = Path(__file__).parents[3] / "shared" / "data" / "tcga"
COHORTS = ("blca", "brca", "gbmlgg", "hnsc", "nsclc")


def orient(time, event, endpoint="OS", cohorts=("unnamed",)):
    return orientation(np.asarray(time, dtype=float), np.asarray(event) == 1, endpoint, list(cohorts))


def simulated(seed, patients, hazard, shape, accrual, end):
    """Weibull events, uniform accrual over `accrual` months, closing date at month `end`."""
    rng = np.random.default_rng(seed)
    events, censored = rng.weibull(shape, patients) / hazard, end - rng.uniform(0, accrual, patients)
    return np.minimum(events, censored), (events <= censored).astype(int)


@pytest.mark.skipif(not TCGA.is_dir(), reason="the TCGA tables are not on this machine")
@pytest.mark.parametrize("name", COHORTS)
def test_real_cohorts_are_accepted_and_their_inverted_versions_are_not(name):
    table = pd.read_csv(TCGA / f"{name}_clinical.csv")
    time, event, cohorts = table["time_months"], table["event"], table["cohort"]
    assert orient(time, event, cohorts=cohorts).question() is None
    assert "is probably inverted" in orient(time, 1 - event, cohorts=cohorts).question()
    # Without the name of a known project: BRCA has late events (0.62), but few.
    assert orient(time, event).question() is None
    assert "is probably inverted" in orient(time, 1 - event).question()


@pytest.mark.skipif(not TCGA.is_dir(), reason="the TCGA tables are not on this machine")
def test_shares_of_the_known_projects_are_those_of_their_tables():
    table = pd.concat([pd.read_csv(TCGA / f"{name}_clinical.csv") for name in COHORTS])
    counted = table.groupby("cohort")["event"].mean()
    assert counted.round(2).to_dict() == pytest.approx(KNOWN_OS_SHARE, abs=0.011)


@pytest.mark.parametrize(
    ("load", "endpoint", "passes"),
    [
        (sksurv.datasets.load_breast_cancer, "DMFS", True),
        (sksurv.datasets.load_gbsg2, "PFI", True),
        (sksurv.datasets.load_whas500, "OS", True),
        (sksurv.datasets.load_flchain, "OS", True),
        (sksurv.datasets.load_veterans_lung_cancer, "OS", False),  # 128 of 137 died: the flags alone do not decide
    ],
)
def test_published_data_sets(load, endpoint, passes):
    outcome = load()[1]
    event, time = (outcome[name] for name in outcome.dtype.names)
    assert (orient(time, event, endpoint).question() is None) == passes
    assert orient(time, ~event, endpoint).question() is not None or not passes


def test_frequent_and_late_events_must_be_confirmed():
    """78 % events, later than the censorings with p = 0.0014."""
    rng = np.random.default_rng(5)
    event = (np.arange(200) < 156).astype(int)
    time = np.where(event == 1, rng.gamma(3, 12, 200), rng.gamma(3, 8.5, 200))
    assert orient(time, event).question() is not None
    assert "is probably inverted" in orient(time, event).question()


@pytest.mark.parametrize("seed", range(5))
def test_frequent_early_events_are_accepted(seed):
    """80 % die, at a decreasing hazard; the others are censored at the closing date, as in a glioblastoma trial."""
    time, event = simulated(seed, 300, hazard=1 / 9, shape=0.7, accrual=12, end=30)
    assert 0.7 < event.mean() < 0.9
    assert orient(time, event).question() is None
    assert "is probably inverted" in orient(time, 1 - event).question()


@pytest.mark.parametrize("seed", range(20))
def test_no_table_is_accepted_in_both_orientations(seed):
    rng = np.random.default_rng(seed)
    time, event = rng.gamma(2, 20, 80), rng.random(80) < rng.uniform(0.05, 0.95)
    written, inverted = orient(time, event), orient(time, 1 - event)
    assert written.total == pytest.approx(-inverted.total, abs=1e-12)
    assert written.question() is not None or inverted.question() is not None


def test_the_parts_agree_with_a_manual_calculation():
    """Events at 1 and 2, censorings at 3, 4, 5, 6: no event is late; S ends at 4/6, the follow-up curve at 0."""
    parts = orient([1, 2, 3, 4, 5, 6], [1, 1, 0, 0, 0, 0])
    assert parts.share == pytest.approx(2 * math.log(0.3 / 0.7) * math.log((2 / 6) / (4 / 6)) / 1.3**2)
    assert parts.order == pytest.approx(2 * (0.33 - 0.5) * (0 - 0.5) / (0.17**2 + 7 / (12 * 2 * 4)))
    assert parts.followup == 1.1
    assert (parts.total >= MIN_LOG_RATIO) == (parts.question() is None)


def test_a_table_without_events_gives_zero():
    assert orient([1.0, 2.0], [0, 0]).total == 0
