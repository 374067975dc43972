import itertools

import numpy as np
import pytest
import torch

from mcti.dataset.bags import PatientBag
from mcti.dataset.time_bins import at_risk_shares, base_hazard, bin_edges, bin_index
from mcti.errors import DataError
from mcti.params import BinParams


def test_bins_of_a_hand_worked_case():
    """Uncensored times 1…8, four bins: the quartiles by linear interpolation are 2.75, 4.5, 6.25."""
    times = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 30])
    events = np.array([True] * 8 + [False])
    edges = bin_edges(times, events, BinParams(count=4))
    assert edges == (0.0, 2.75, 4.5, 6.25, 30.0)
    at = torch.tensor([0.0, 2.74, 2.75, 4.5, 6.24, 6.25, 8.0, 30.0, 99.0])
    assert bin_index(at, edges).tolist() == [0, 0, 1, 2, 2, 3, 3, 3, 3]


def test_uniform_bins_reach_to_the_last_event():
    edges = bin_edges(np.array([2.0, 4, 8, 9]), np.array([1, 1, 1, 0], bool), BinParams(count=2, placement="uniform"))
    assert edges == (0.0, 4.0, 9.0)


def test_censored_times_do_not_move_the_inner_edges():
    events = np.array([True] * 6 + [False] * 2)
    one = bin_edges(np.array([1.0, 2, 3, 4, 5, 6, 0.5, 7]), events, BinParams(count=3))
    two = bin_edges(np.array([1.0, 2, 3, 4, 5, 6, 5.5, 7]), events, BinParams(count=3))
    assert one == two


@pytest.mark.parametrize("seed", range(20))
def test_edges_rise_strictly_and_leave_an_event_for_every_bin_even_with_ties(seed):
    random = np.random.default_rng(seed)
    times = random.integers(1, 9, size=40).astype(float)
    times[:25] = 3.0  # more than half of the events at one time
    events = random.random(40) < 0.8
    count = min(5, len(np.unique(times[events])))
    edges = bin_edges(times, events, BinParams(count=count))
    assert all(left < right for left, right in itertools.pairwise(edges))
    assert len(edges) == count + 1
    indices = bin_index(torch.from_numpy(times[events]), edges)
    assert sorted(set(indices.tolist())) == list(range(count))


def test_fewer_event_times_than_bins_are_refused():
    with pytest.raises(DataError, match=r"events at 2 different times, and 4 time bins.*bins.count lower"):
        bin_edges(np.array([1.0, 1, 2, 5]), np.array([1, 1, 1, 0], bool), BinParams(count=4))


def test_the_base_hazard_by_hand():
    """Edges 0, 10, 20, 30. Reached: 4, 3, 1; events 1, 1, 0 -> (1.5 / 5, 1.5 / 4, 0.5 / 2)."""
    fates = [(5.0, True), (12.0, True), (15.0, False), (25.0, False)]
    patients = [PatientBag(str(i), None, None, time, event, 0) for i, (time, event) in enumerate(fates)]
    assert base_hazard(patients, (0.0, 10.0, 20.0, 30.0)).tolist() == pytest.approx([0.3, 0.375, 0.25])


def test_the_initial_hazard_counts_patients_from_their_entry():
    """Bins [0, 10) and [10, 20]. Patients at risk: in bin 0 1 + 0.5 (entry 5) + 0, in bin 1 0 + 1 + 0.8 (entry 12)."""
    outcomes = [(4.0, True, 0.0), (15.0, False, 5.0), (20.0, True, 12.0)]
    bags = [
        PatientBag(str(i), None, None, time, event, 0, entry_months=entry)
        for i, (time, event, entry) in enumerate(outcomes)
    ]
    shares = at_risk_shares(bags, (0.0, 10.0, 20.0))
    torch.testing.assert_close(shares, torch.tensor([[1, 0], [0.5, 1], [0, 0.8]], dtype=torch.float64))
    hazard = base_hazard(bags, (0.0, 10.0, 20.0))
    torch.testing.assert_close(hazard, torch.tensor([1.5 / 2.5, 1.5 / 2.8]))
