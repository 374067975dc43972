import dataclasses
import itertools

import numpy as np
import pytest
import torch

from mcti.dataset.bags import PatientBag, check_training_part, digest
from mcti.dataset.batches import collate
from mcti.dataset.sampling import batch_order, draw_patches
from mcti.dataset.scaling import fit_feature_scale, fit_inputs, fit_scale
from mcti.dataset.time_bins import base_hazard, bin_edges, bin_index
from mcti.errors import DataError
from mcti.params import BinParams
from tests.training import factories


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


def test_scales_agree_with_numpy_and_leave_missing_values_out():
    """Oracle: numpy's nanmean and nanstd in float64."""
    values = torch.tensor([[1.0, 5.0, 7.0], [3.0, 5.0, float("nan")], [8.0, 5.0, 9.0]])
    scale = fit_scale(values)
    np.testing.assert_allclose(scale.mean, np.nanmean(values.double().numpy(), axis=0), rtol=1e-6)  # float32 storage
    np.testing.assert_allclose(scale.sd[[0, 2]], np.nanstd(values.double().numpy(), axis=0)[[0, 2]], rtol=1e-6)
    standard = scale(values)
    assert standard[:, 1].tolist() == [0, 0, 0]  # constant: silent
    assert standard[1, 2] == 0  # missing: the mean
    np.testing.assert_allclose(standard[:, 0].numpy().std(), 1, rtol=1e-6)


def test_every_patient_weighs_the_same_in_the_scale_of_features():
    many, one = torch.zeros(99, 1), torch.full((1, 1), 2.0)
    scale = fit_feature_scale([many, one])
    assert scale.mean.tolist() == [1.0]
    assert scale.sd.tolist() == [1.0]


def test_the_draw_is_a_function_of_seed_epoch_and_patient_alone():
    bag = torch.arange(50.0)[:, None]
    first = draw_patches(bag, 7, (3, 1, "P-1"))
    torch.rand(5)  # other draws in between
    assert torch.equal(first, draw_patches(bag, 7, (3, 1, "P-1")))
    assert not torch.equal(first, draw_patches(bag, 7, (3, 2, "P-1")))
    assert not torch.equal(first, draw_patches(bag, 7, (3, 1, "P-2")))
    assert first[:, 0].tolist() == sorted(set(first[:, 0].tolist()))
    assert draw_patches(bag, 50, (0,)) is bag


def test_a_draw_is_uniform_over_patches():
    """10 of 20 patches in 400 epochs: each is drawn 200 times, sd 10; six sd is a fair wall."""
    bag = torch.arange(20)[:, None]
    counts = torch.zeros(20)
    for epoch in range(400):
        counts[draw_patches(bag, 10, (0, epoch, "P"))[:, 0]] += 1
    assert counts.min() > 140
    assert counts.max() < 260


@pytest.mark.parametrize(("patients", "batch"), [(24, 8), (25, 8), (3, 8), (1, 8), (200, 7)])
def test_every_patient_is_in_one_batch_of_an_epoch(patients, batch):
    lengths = [1 + (7 * number) % 30 for number in range(patients)]
    one = batch_order(lengths, batch, (0, 1))
    assert sorted(position for chosen in one for position in chosen) == list(range(patients))
    assert len(one) == len(batch_order(lengths, batch, (0, 2)))
    assert patients == 1 or min(map(len, one)) > 1
    assert patients < 100 or _companies(one) != _companies(batch_order(lengths, batch, (0, 2)))


def _companies(batches):
    return {frozenset(chosen) for chosen in batches}


def test_bags_of_one_length_change_company_too():
    assert _companies(batch_order([64] * 40, 8, (0, 1))) != _companies(batch_order([64] * 40, 8, (0, 2)))


def test_batches_hold_bags_of_like_length():
    random = np.random.default_rng(0)
    lengths = random.integers(1, 1000, size=256).tolist()
    batches = batch_order(lengths, 16, (0,))
    padded = sum(len(chosen) * max(lengths[position] for position in chosen) for chosen in batches)
    assert padded < 1.5 * sum(lengths)  # in random company it is about 1.9


def test_a_batch_is_padded_with_zeros_and_does_not_depend_on_company():
    people = factories.bags(6)
    fitted = fit_inputs(people, BinParams(count=2), len(people[0].genes))
    batch = collate(people, fitted, 5, (0, 0))
    alone = collate(people[2:3], fitted, 5, (0, 0))
    length = int(batch.mask[2].sum())
    assert length == min(5, len(people[2].patches)) == alone.patches.shape[1]
    assert torch.equal(batch.patches[2, :length], alone.patches[0])
    assert batch.patches[~batch.mask].abs().sum() == 0
    assert torch.equal(batch.genes[2], alone.genes[0])


def test_bags_that_cannot_be_learned_from_are_named():
    people = factories.bags(6)
    with pytest.raises(DataError, match="no patient of subtype 'rare'"):
        check_training_part(people, ("IDC", "ILC", "rare"), "fold 1")
    with pytest.raises(DataError, match="with 0 events"):
        check_training_part([dataclasses.replace(bag, event=False) for bag in people], factories.CLASSES, "fold 1")
    broken = people[3].patches.clone()
    broken[0, 2] = float("nan")
    for wrong, words in (
        (torch.zeros(0, factories.WIDTH), "a bag without a patch"),
        (broken, "row 0 of the features is NaN"),
        (torch.zeros(3, factories.WIDTH + 1), "features of shape"),
    ):
        changed = [*people[:3], dataclasses.replace(people[3], patches=wrong), *people[4:]]
        with pytest.raises(DataError, match=f"{words}.*fold 1, patient P-003"):
            check_training_part(changed, factories.CLASSES, "fold 1")


def test_the_digest_sees_every_part_of_a_patient():
    people = factories.bags(3)
    plain = digest(people)
    assert plain == digest(factories.bags(3))
    changes = (
        {"patient_id": "Q"},
        {"time_months": 1.0},
        {"event": not people[1].event},
        {"subtype": 0},
        {"patches": people[1].patches + 1},
        {"genes": None},
    )
    for change in changes:
        assert digest([people[0], dataclasses.replace(people[1], **change), people[2]]) != plain


def test_the_base_hazard_by_hand():
    """Edges 0, 10, 20, 30. Reached: 4, 3, 1; events 1, 1, 0 -> (1.5 / 5, 1.5 / 4, 0.5 / 2)."""
    fates = [(5.0, True), (12.0, True), (15.0, False), (25.0, False)]
    patients = [PatientBag(str(i), None, None, time, event, 0) for i, (time, event) in enumerate(fates)]
    assert base_hazard(patients, (0.0, 10.0, 20.0, 30.0)).tolist() == pytest.approx([0.3, 0.375, 0.25])
