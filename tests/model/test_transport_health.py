"""Coupling health on tokens with known results."""

import math

import pytest
import torch

from mcti.model import transport


def by_assignment(rows, columns):
    return transport.assignment(torch.cdist(rows, columns, compute_mode="donot_use_mm_for_euclid_dist").square())


def test_distinct_tokens_stand_the_noise():
    tokens = torch.eye(12, dtype=torch.float64)[None]
    reported = transport.health(tokens, tokens.flip(1), by_assignment)
    assert reported.moved.item() == 0
    assert reported.entropy.item() == 0
    assert reported.rank_rows.item() == pytest.approx(12)
    assert reported.rank_columns.item() == pytest.approx(12)


def test_identical_tokens_do_not():
    """The assignment between equal tokens is determined by the noise (docs/protocol.md)."""
    tokens = torch.ones(2, 40, 6, dtype=torch.float64)
    reported = transport.health(tokens, tokens, by_assignment)
    assert (reported.moved > 0.5).all()
    torch.testing.assert_close(reported.rank_rows, torch.ones(2, dtype=torch.float64))


def test_the_entropic_plan_of_identical_tokens_is_stable_under_noise_and_uninformative():
    tokens = torch.ones(1, 40, 6, dtype=torch.float64)

    def coupling(rows, columns):
        return transport.sinkhorn(torch.cdist(rows, columns).square(), entropy=0.1)

    reported = transport.health(tokens, tokens, coupling)
    assert reported.moved.item() < 1e-3
    assert reported.entropy.item() == pytest.approx(1)


def test_the_same_seed_gives_the_same_health():
    tokens = torch.ones(3, 50, 4)
    one, two, other = (transport.health(tokens, tokens, by_assignment, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.moved, two.moved)
    assert not torch.equal(one.moved, other.moved)


def test_moved_share_by_hand():
    """Three of four rows change their column; a row with half of its mass in another column counts half."""
    before = torch.eye(4)[None] / 4
    assert transport.moved_share(before, torch.eye(4)[[1, 2, 0, 3]][None] / 4).item() == 0.75
    half = before.clone()
    half[0, 0] = torch.tensor([1, 1, 0, 0]) / 8
    assert transport.moved_share(before, half).item() == pytest.approx(0.125)
    assert transport.moved_share(torch.zeros(1, 3, 3), torch.zeros(1, 3, 3)).item() == 0


def test_plan_entropy_by_hand():
    plans = torch.stack([torch.eye(4) / 4, torch.full((4, 4), 1 / 16), torch.zeros(4, 4)])
    plans[2, :, :2] = 1 / 8  # every row between two of four columns: log 2 / log 4
    torch.testing.assert_close(transport.plan_entropy(plans), torch.tensor([0.0, 1.0, 0.5]))
    assert transport.plan_entropy(torch.ones(1, 3, 1)).item() == 0
    assert transport.plan_entropy(torch.zeros(1, 3, 3)).item() == 0


def test_effective_rank_by_hand():
    """Singular values 2, 1, 1: shares 1/2, 1/4, 1/4, entropy 1.5 log 2."""
    tokens = torch.diag(torch.tensor([2.0, 1.0, 1.0]))[None]
    for scale in (1.0, 1e-30, 1e30):
        assert transport.effective_rank(tokens * scale).item() == pytest.approx(2**1.5, rel=1e-6)
    assert transport.effective_rank(torch.zeros(1, 3, 3)).item() == 0


def test_masked_tokens_do_not_count_in_the_rank():
    tokens = torch.eye(5)[None].repeat(2, 1, 1)
    mask = torch.tensor([[True, True, False, False, False], [False] * 5])
    tokens[:, 3] = math.nan
    torch.testing.assert_close(transport.effective_rank(tokens, mask), torch.tensor([2.0, 0.0], dtype=torch.float64))
