"""Assignment of whole sites to folds."""

import itertools

import numpy as np
import pytest

from mcti.cohort import sites
from mcti.errors import DataError
from tests.cohort.cases import patient_table


def best_event_balance(events, site, count):
    """Exhaustive search: the minimum of the largest deviation of a share of events from 1 / count, in per cent."""
    codes, site_code = np.unique(site, return_inverse=True)
    per_site = np.bincount(site_code, weights=events)
    best = np.inf
    for rest in itertools.product(range(count), repeat=len(codes) - 1):
        assignment = (0, *rest)
        if len(set(assignment)) == count:
            share = np.bincount(assignment, weights=per_site, minlength=count) / per_site.sum()
            best = min(best, 100 * np.abs(share - 1 / count).max())
    return best


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("searched", [True, False])
def test_site_folds_are_within_three_points_of_the_best_event_balance(seed, searched, monkeypatch):
    """Oracle: all assignments of 8 sites in 3 folds; also with the exhaustive search of the product switched off."""
    if searched:
        monkeypatch.setattr(sites, "EXACT_ASSIGNMENTS", 0)
    frame = patient_table(seed, site_count=8)
    event = frame["event"].to_numpy() == 1
    assignment = sites.assign_sites(frame["site"].tolist(), event, frame["subtype"].tolist(), 3, [seed], 64)
    share = np.bincount(assignment, weights=event, minlength=3) / event.sum()
    ours = 100 * np.abs(share - 1 / 3).max()
    assert ours <= best_event_balance(event, frame["site"].to_numpy(), 3) + 3


def test_imbalance_is_zero_for_equal_shares_and_grows_with_the_deviation():
    """Two sites with half of the patients each: equal in two folds; in one fold the deviation is 2 * 0.5 ** 2."""
    counts = np.array([[0.5], [0.5]])
    assert sites.imbalance(counts, np.array([0, 1]), 2) == 0
    assert sites.imbalance(counts, np.array([0, 0]), 2) == pytest.approx(0.5)


def test_fewer_sites_than_folds_are_refused():
    with pytest.raises(DataError, match="2 sites cannot fill 3 folds"):
        sites.assign_sites(["a", "b"], np.array([True, False]), ["k", "k"], 3, [0], 1)
