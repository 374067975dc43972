"""The exact solver against scipy 1.17, POT 0.9.7 and manual solutions, and on invalid costs."""

import itertools
import math
import multiprocessing

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mcti.errors import DataError
from mcti.model import transport
from tests.model.pot_oracle import pot
from tests.model.transport_costs import SIZES, squares

CASES = list(squares(seeds=5))  # 18 families, 6 sizes, 5 seeds: 540


def total(cost: Tensor, permutation: Tensor) -> float:
    return math.fsum(cost[torch.arange(len(cost)), permutation].tolist())


def scale(cost: Tensor) -> float:
    """Scale of the tolerance: n times the largest cost, because rounding errors do not shrink where terms cancel."""
    return float(cost.abs().max()) * len(cost)


def of_size(n: int) -> tuple[list[str], Tensor]:
    chosen = [(name, cost) for name, cost in CASES if len(cost) == n]
    return [name for name, _ in chosen], torch.stack([cost for _, cost in chosen])


@pytest.mark.parametrize("n", SIZES)
def test_total_is_that_of_scipy(n):
    """Totals, never permutations: ties leave many optima."""
    names, costs = of_size(n)
    plan = transport.assignment(costs)
    for name, cost, permutation in zip(names, costs, plan.permutation, strict=True):
        theirs = total(cost, torch.from_numpy(linear_sum_assignment(cost.numpy())[1]))
        assert abs(total(cost, permutation) - theirs) <= 1e-9 * max(abs(theirs), 1e-6 * scale(cost)), name
        assert sorted(permutation.tolist()) == list(range(n)), name


@pytest.mark.parametrize("n", SIZES)
def test_objective_is_that_of_pot(n):
    names, costs = of_size(n)
    ours = (costs * transport.assignment(costs).coupling).sum((1, 2))
    theirs = (costs * pot(costs).coupling).sum((1, 2))
    limit = 1e-9 * torch.maximum(theirs.abs(), 1e-6 * costs.abs().amax((1, 2)))
    assert ((ours - theirs).abs() <= limit).all(), [names[i] for i in (ours - theirs).abs().gt(limit).nonzero()]


@pytest.mark.parametrize("solve", [transport.assignment, pot])
@pytest.mark.parametrize("unit", [5e-324, 1e-310, 1.0, 1e300, 1.79e308])
def test_the_unit_of_the_cost_does_not_change_the_optimum(solve, unit):
    """Whole numbers of units up to the largest and down to the least of float64; oracle: scipy on the whole numbers."""
    whole = torch.randint(-9, 10, (3, 17, 17), generator=torch.Generator().manual_seed(8)).double()
    if unit > 1e299:
        whole = whole / 9
    coupling = solve(whole * unit).coupling
    for cost, plan in zip(whole, coupling, strict=True):
        theirs = total(cost, torch.from_numpy(linear_sum_assignment(cost.numpy())[1])) / 17
        assert float((cost * plan).sum()) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lower_precisions_are_solved_to_the_optimum_of_their_own_digits(dtype):
    _, costs = of_size(24)
    costs = costs[costs.abs().amax((1, 2)) < 1e4].to(dtype)
    for cost, permutation in zip(costs.double(), transport.assignment(costs).permutation, strict=True):
        theirs = total(cost, torch.from_numpy(linear_sum_assignment(cost.numpy())[1]))
        assert abs(total(cost, permutation) - theirs) <= 1e-9 * max(abs(theirs), 1e-6 * scale(cost))


def test_paper_size_agrees_with_scipy():
    """n = 512, tokens as similar as those of the reference."""
    generator = torch.Generator().manual_seed(0)
    left, right = (1 + 1e-3 * torch.randn(512, 64, generator=generator, dtype=torch.float64) for _ in range(2))
    cost = torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist").square()
    cost = (cost - cost.mean()) / cost.std()
    theirs = total(cost, torch.from_numpy(linear_sum_assignment(cost.numpy())[1]))
    assert total(cost, transport.assignment(cost[None]).permutation[0]) == pytest.approx(theirs, rel=1e-9)


def test_assignment_by_hand():
    """A greedy solution takes 1 and then 9; the optimum is 2 + 2."""
    plan = transport.assignment(torch.tensor([[[1.0, 2.0], [2.0, 9.0]]]))
    assert plan.permutation.tolist() == [[1, 0]]
    assert plan.coupling.tolist() == [[[0.0, 0.5], [0.5, 0.0]]]
    assert plan.error.tolist() == [0.0]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.lists(st.integers(-4, 4), min_size=25, max_size=25))
def test_no_permutation_is_cheaper(n, entries):
    """Oracle: all n! permutations."""
    cost = torch.tensor(entries, dtype=torch.float64).view(5, 5)[:n, :n]
    best = min(total(cost, torch.tensor(way)) for way in itertools.permutations(range(n)))
    assert total(cost, transport.assignment(cost[None]).permutation[0]) == best


def test_marginals_are_uniform():
    cost = torch.rand(4, 30, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    coupling = transport.assignment(cost).coupling
    for axis in (1, 2):
        torch.testing.assert_close(coupling.sum(axis), torch.full((4, 30), 1 / 30, dtype=torch.float64))


@pytest.mark.parametrize("garbage", [torch.nan, torch.inf, 1e30])
def test_masked_item_gets_the_very_plan_of_the_unpadded_one(garbage):
    generator = torch.Generator().manual_seed(2)
    small = torch.rand(3, 9, 9, generator=generator)
    counts = (9, 4, 0)
    padded, mask = torch.full((3, 12, 12), garbage), torch.zeros(3, 12, dtype=torch.bool)
    for item, count in enumerate(counts):
        padded[item, 2 : 2 + count, 2 : 2 + count] = small[item, :count, :count]
        mask[item, 2 : 2 + count] = True
    plan = transport.assignment(padded, mask, mask)
    for item, count in enumerate(counts):
        inside = plan.coupling[item, 2 : 2 + count, 2 : 2 + count]
        if count:
            assert torch.equal(inside, transport.assignment(small[item : item + 1, :count, :count]).coupling[0])
        assert plan.coupling[item].sum().item() == pytest.approx(float(count > 0))
        assert (plan.permutation[item][~mask[item]] == -1).all()


def test_carrying_is_the_product_with_the_coupling():
    generator = torch.Generator().manual_seed(3)
    cost = torch.rand(3, 8, 8, generator=generator, dtype=torch.float64)
    rows = torch.arange(8) < torch.tensor([[8], [5], [0]])
    columns = rows.flip(1)
    tokens = torch.randn(3, 8, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    plan = transport.assignment(cost, rows, columns)
    for way in (plan, plan.transposed()):
        torch.testing.assert_close(way.carry(tokens), way.coupling @ tokens)
    (gathered,) = torch.autograd.grad(plan.carry(tokens).square().sum(), tokens)
    (product,) = torch.autograd.grad((plan.coupling @ tokens).square().sum(), tokens)
    torch.testing.assert_close(gathered, product)


def test_an_empty_batch_has_an_empty_plan():
    assert transport.assignment(torch.zeros(0, 4, 4)).permutation.shape == (0, 4)


def test_threads_do_not_change_the_permutation():
    cost = torch.randint(3, (6, 40, 40), generator=torch.Generator().manual_seed(4)).float()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = transport.assignment(cost).permutation
        torch.set_num_threads(3)
        assert torch.equal(transport.assignment(cost).permutation, alone)
    finally:
        torch.set_num_threads(before)


def _in_child(cost: Tensor, answers: "multiprocessing.SimpleQueue[list[list[int]]]") -> None:
    torch.set_num_threads(1)  # torch's own threads do not outlive a fork either
    answers.put(transport.assignment(cost).permutation.tolist())


def test_a_forked_process_solves_too():
    """Data loaders fork; a pool of native threads of the parent would wait in the child forever."""
    cost = torch.rand(4, 20, 20, generator=torch.Generator().manual_seed(5))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        expected = transport.assignment(cost).permutation.tolist()
    finally:
        torch.set_num_threads(before)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(cost, answers))
    child.start()
    child.join(timeout=600)
    alive = child.is_alive()
    child.kill()
    assert not alive
    assert answers.get() == expected


def test_compiled_code_gets_the_same_plan():
    """One graph break per coupling: the solver itself is not traced."""
    cost = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(6))

    def carried(cost: Tensor) -> Tensor:
        return transport.couple(cost + 1, "assignment").coupling @ cost

    torch.testing.assert_close(torch.compile(carried, backend="eager")(cost), carried(cost))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("solver", transport.SOLVERS)
def test_a_cost_that_is_not_finite_is_named(solver, value):
    cost = torch.ones(2, 3, 3)
    cost[1, 2, 0] = value
    with pytest.raises(DataError, match="batch item 1, row 2, column 0"):
        transport.couple(cost, solver)


@pytest.mark.parametrize("cost", [torch.ones(3, 3), torch.ones(1, 0, 3), torch.ones(1, 3, 3, dtype=torch.int64)])
def test_a_cost_of_another_shape_or_type_is_refused(cost):
    with pytest.raises(DataError, match="not floating of shape"):
        transport.assignment(cost)


@pytest.mark.parametrize("mask", [torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 3)])
def test_a_mask_of_another_shape_or_type_is_refused(mask):
    with pytest.raises(DataError, match="mask of the rows"):
        transport.assignment(torch.ones(1, 3, 3), mask_rows=mask)


def test_uneven_numbers_of_tokens_are_refused():
    with pytest.raises(DataError, match=r"2 present rows .* 3 columns"):
        transport.assignment(torch.ones(1, 2, 3))
