"""Null plans, which do not depend on the cost: uniform and permuted."""

import torch

from mcti.model.transport import assignment
from mcti.model.transport.null_plans import shuffled, uniform

MASK = torch.tensor([[True] * 6, [True, True, False, True, False, True]])


def solved():
    cost = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(0))
    return assignment(cost, mask_rows=MASK, mask_columns=MASK)


def test_the_even_plan_gives_every_pair_the_same_mass():
    plan = uniform(MASK, MASK[:, :4]).coupling
    assert plan[0].unique().tolist() == [torch.tensor(1 / 24).item()]
    assert plan[1, 2].sum() == 0
    assert plan[1, 0].tolist() == [torch.tensor(1 / 12).item()] * 2 + [0, torch.tensor(1 / 12).item()]


def test_shuffling_permutes_the_mass_of_present_rows_and_keeps_its_sum():
    before, after = solved(), shuffled(solved(), MASK)
    torch.testing.assert_close(after.coupling.sum(1), before.coupling.sum(1))
    assert after.coupling[1][~MASK[1]].sum() == 0
    assert not torch.equal(before.coupling[0], after.coupling[0])
    rows = {tuple(row.tolist()) for row in before.coupling[0]}
    assert {tuple(row.tolist()) for row in after.coupling[0]} == rows


def test_carry_of_a_shuffled_permutation_equals_that_of_its_matrix():
    plan, tokens = shuffled(solved(), MASK), torch.randn(2, 6, 3)
    tokens = tokens * MASK[..., None]
    torch.testing.assert_close(plan.carry(tokens), plan.coupling @ tokens)
    torch.testing.assert_close(plan.transposed().carry(tokens), plan.coupling.transpose(1, 2) @ tokens)


def test_the_shuffle_does_not_depend_on_the_call():
    assert torch.equal(shuffled(solved(), MASK).coupling, shuffled(solved(), MASK).coupling)
