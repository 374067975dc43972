import numpy as np
import pytest
import torch

from mcti.dataset.sampling import batch_order, draw_patches, hold_out, seeded_generator
from tests.training import factories


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


def test_a_generator_is_a_function_of_its_key():
    draws = [torch.rand(1, generator=seeded_generator(*key)).item() for key in ((7, "a"), (7, "a"), (7, "b"), (8, "a"))]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3


def test_a_share_of_both_outcomes_is_held_out():
    bags = factories.bags(24)
    kept, held = hold_out(bags, 0.25, (7,))
    assert [bag.patient_id for bag in bags if bag in kept] == [bag.patient_id for bag in kept]
    for event in (True, False):
        of_event = sum(bag.event is event for bag in bags)
        assert sum(bag.event is event for bag in held) == max(1, round(0.25 * of_event))
    assert len(kept) + len(held) == 24
