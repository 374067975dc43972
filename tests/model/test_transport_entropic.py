"""Sinkhorn with fixed marginals against POT 0.9.7, closed forms and the exact solver."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mcti.errors import DataError, UsageError
from mcti.model import transport
from mcti.model.transport import SolverSettings
from tests.model.pot_oracle import pot
from tests.model.transport_costs import SIZES, squares

CASES = list(squares(seeds=5))  # 18 families, 6 sizes, 5 seeds: 540


def rectangle(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def marginals_hold(coupling: torch.Tensor, tolerance: float) -> bool:
    """Relative to the mass that each row and column should hold."""
    _, n, m = coupling.shape
    rows, columns = coupling.sum(2) * n - 1, coupling.sum(1) * m - 1
    return bool((rows.abs() <= tolerance).all() and (columns.abs() <= tolerance).all())


@pytest.mark.parametrize("n", SIZES)
def test_marginals_hold_on_every_cost_at_one_entropy(n):
    """Entropy 0.1 and the default iterations, for any cost: in its units 1e200 is practically exact transport."""
    names, costs = zip(*((name, cost) for name, cost in CASES if len(cost) == n), strict=True)
    plan = transport.sinkhorn(torch.stack(costs), entropy=0.1)
    for name, coupling, error in zip(names, plan.coupling, plan.error, strict=True):
        assert marginals_hold(coupling[None], 1e-6), name
        assert error.item() <= 1e-6


@pytest.mark.parametrize("seed", range(6))
def test_marginals_hold_however_far_the_costs_exceed_the_entropy(seed):
    """From 1e4 to 1e308 entropies: within 1,000 iterations, by a path of coarser entropies."""
    spread = 10.0 ** (4 + 60.8 * seed)
    tokens = torch.randn(2, 2, 40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    planar = torch.cdist(tokens[0], tokens[1]).square()
    cost = torch.cat([rectangle(2, 40, 40, seed=seed), planar / planar.amax()]) * spread
    plan = transport.sinkhorn(cost, entropy=1.0)
    assert marginals_hold(plan.coupling, 1e-6)
    exact = (cost / spread * transport.assignment(cost).coupling).sum((1, 2))
    excess = (cost / spread * plan.coupling).sum((1, 2)) - exact
    assert (excess <= math.log(40) * max(1 / spread, 1e-12) + 1e-8).all()  # bias at most entropy·log n


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("sharpness", [0.3, 0.03])
def test_marginals_hold_on_every_family(n, sharpness):
    """To 1e-6 of each token's mass, with an entropy of 30 % and of 3 % of the costs' largest difference."""
    for name, cost in CASES:
        if len(cost) == n and name.endswith(("seed=0", "seed=1")):
            entropy = sharpness * (float(cost.max() - cost.min()) or 1.0)
            plan = transport.sinkhorn(cost[None], entropy=entropy, max_iterations=100_000, tolerance=1e-6)
            assert marginals_hold(plan.coupling, 1e-6), (name, plan)
            assert plan.error.item() <= 1e-6
            assert (plan.coupling >= 0).all()


@pytest.mark.parametrize(("rows", "columns"), [(20, 20), (5, 40), (40, 5)])
@pytest.mark.parametrize("entropy", [1.0, 0.1, 0.04])
def test_plan_agrees_with_pot(rows, columns, entropy):
    cost = rectangle(3, rows, columns)
    settings = {"entropy": entropy, "tolerance": 1e-12, "max_iterations": 10**5}
    ours, theirs = transport.sinkhorn(cost, **settings), pot(cost, problem="sinkhorn", **settings)
    torch.testing.assert_close(ours.coupling, theirs.coupling, rtol=0, atol=1e-10)  # both iterate to 1e-12


def test_two_by_two_by_hand():
    """Symmetric cost [[0, c], [c, 0]]: the diagonal holds 1 / (1 + exp(-c / entropy)) of the mass."""
    cost = torch.tensor([[[0.0, 0.6], [0.6, 0.0]]], dtype=torch.float64)
    plan = transport.sinkhorn(cost, entropy=0.2, tolerance=1e-12)
    assert plan.coupling[0, 0, 0].item() == pytest.approx(0.5 / (1 + math.exp(-3)), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [0.0, 0.7, -3.0, 1e30])
def test_equal_costs_spread_the_mass_evenly(dtype, value):
    plan = transport.sinkhorn(torch.full((2, 4, 6), value).to(dtype), entropy=0.1)
    torch.testing.assert_close(plan.coupling, torch.full_like(plan.coupling, 1 / 24), rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_one_token_takes_all(shape):
    plan = transport.sinkhorn(rectangle(1, *shape), entropy=0.01)
    torch.testing.assert_close(plan.coupling, torch.full((1, *shape), 1 / max(shape), dtype=torch.float64))


def test_small_entropy_nears_the_exact_coupling():
    """The bias of the entropic objective is at most entropy·log n (the plan's entropy is within [log n, 2 log n])."""
    cost = rectangle(4, 30, 30)
    exact = (cost * transport.assignment(cost).coupling).sum((1, 2))
    plan = transport.sinkhorn(cost, entropy=1e-3, max_iterations=200_000)
    assert marginals_hold(plan.coupling, 1e-6)
    excess = (cost * plan.coupling).sum((1, 2)) - exact
    assert (excess >= -1e-6).all()
    assert (excess <= 1e-3 * math.log(30)).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tolerance", [1e-3, 1e-9])
@pytest.mark.parametrize("entropy", [5e-324, 1e-300, 1e-12, 0.1, 1e12, 1e300])
def test_no_finite_cost_gives_nan(dtype, tolerance, entropy):
    """Up to the largest numbers of the type, entropies of any size and far too few iterations."""
    largest = torch.finfo(dtype).max
    noise = rectangle(3, 9, 9).to(dtype)
    cost = [noise, noise * 0, noise * largest, -noise * largest, (noise - 0.5) * largest, noise * 1e-30]
    cost = torch.cat(cost).to(dtype)
    plan = transport.sinkhorn(cost, entropy=entropy, max_iterations=50, tolerance=tolerance)
    assert plan.coupling.isfinite().all()
    assert plan.error.isfinite().all()
    torch.testing.assert_close(plan.coupling.sum(1), torch.full_like(plan.coupling.sum(1), 1 / 9), rtol=1e-4, atol=0)


def test_adding_constants_to_rows_and_columns_changes_nothing():
    cost = rectangle(3, 12, 12)
    moved = cost + 40 * rectangle(3, 12, 1, seed=1) - 70 * rectangle(3, 1, 12, seed=2)
    one, other = (transport.sinkhorn(c, entropy=0.1, tolerance=1e-12, max_iterations=10**5) for c in (cost, moved))
    torch.testing.assert_close(one.coupling, other.coupling, rtol=1e-8, atol=0)  # 110 / 0.1 in the exponent


def test_float32_and_float64_agree():
    cost = rectangle(4, 64, 64)
    single = transport.sinkhorn(cost.float(), entropy=0.05, tolerance=1e-5, max_iterations=5000)
    double = transport.sinkhorn(cost, entropy=0.05, tolerance=1e-9, max_iterations=5000)
    assert single.coupling.dtype == torch.float32
    torch.testing.assert_close(single.coupling.double(), double.coupling, rtol=1e-3, atol=0)


def test_an_item_does_not_depend_on_its_neighbours_or_its_padding():
    easy, hard = rectangle(1, 10, 10), 100 * rectangle(1, 10, 10, seed=1)
    padded = torch.full((2, 14, 13), torch.nan, dtype=torch.float64)
    padded[0, 2:12, 3:13], padded[1, 2:12, 3:13] = easy[0], hard[0]
    rows, columns = torch.zeros(2, 14, dtype=torch.bool), torch.zeros(2, 13, dtype=torch.bool)
    rows[:, 2:12], columns[:, 3:13] = True, True
    settings = {"entropy": 0.1, "tolerance": 1e-6, "max_iterations": 10**5}
    together = transport.sinkhorn(padded, mask_rows=rows, mask_columns=columns, **settings).coupling
    for item, cost in enumerate((easy, hard)):
        alone = transport.sinkhorn(cost, **settings).coupling[0]
        # The hard one has exponents near 1,000 and all but a permutation for a plan: rounding is amplified.
        torch.testing.assert_close(together[item, 2:12, 3:13], alone, rtol=1e-6, atol=0)
    assert together[~(rows[:, :, None] & columns[:, None])].abs().max() == 0


def test_items_without_tokens_have_an_empty_plan_and_one_sided_ones_are_refused():
    none, some = torch.zeros(1, 3, dtype=torch.bool), torch.ones(1, 3, dtype=torch.bool)
    assert transport.sinkhorn(torch.ones(1, 3, 3), entropy=0.1, mask_rows=none, mask_columns=none).coupling.sum() == 0
    with pytest.raises(DataError, match="one side has no present token"):
        transport.sinkhorn(torch.ones(1, 3, 3), entropy=0.1, mask_rows=none, mask_columns=some)


def test_too_few_iterations_are_told():
    plan = transport.sinkhorn(rectangle(2, 30, 30), entropy=0.001, max_iterations=7, tolerance=1e-9)
    true = (plan.coupling.sum(2) * 30 - 1).abs().amax(1)
    assert plan.iterations == 7
    assert (plan.error > 1e-9).all()
    torch.testing.assert_close(plan.error, true)


def test_autocast_does_not_reach_the_iteration():
    cost = rectangle(2, 20, 20).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = transport.sinkhorn(cost, entropy=0.1, tolerance=1e-5).coupling
    assert torch.equal(inside, transport.sinkhorn(cost, entropy=0.1, tolerance=1e-5).coupling)


@pytest.mark.parametrize("entropy", [1.0, 0.2])
def test_gradient_through_the_plan_is_that_of_finite_differences(entropy):
    cost = rectangle(2, 4, 5).requires_grad_()
    rows = torch.tensor([[True] * 4, [True, True, False, True]])

    def plan(c):
        return transport.sinkhorn(
            c, entropy=entropy, tolerance=1e-14, max_iterations=10**4, mask_rows=rows, gradient=True
        ).coupling

    assert torch.autograd.gradcheck(plan, (cost,), atol=1e-6)


def test_the_plan_is_a_constant_unless_asked():
    cost = rectangle(1, 4, 4).requires_grad_()
    assert not transport.sinkhorn(cost, entropy=0.1).coupling.requires_grad


def test_gradient_of_repeated_tokens_is_finite():
    """Sharp plans between groups of equal tokens: the system of the adjoint is almost singular."""
    cost = torch.kron(1 - torch.eye(3, dtype=torch.float64), torch.ones(4, 4))[None].requires_grad_()
    plan = transport.sinkhorn(cost, entropy=0.01, gradient=True)
    plan.coupling.square().sum().backward()
    assert cost.grad.isfinite().all()


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    entropy=st.floats(0.05, 10),
    seed=st.integers(0, 10**6),
    largest=st.floats(1e-6, 20),
)
def test_any_shape_meets_its_marginals_and_has_the_form_of_a_scaling(rows, columns, entropy, seed, largest):
    """The plan is exp(f + g - cost / entropy): its logarithm has no interaction other than that of the cost."""
    cost = largest * rectangle(1, rows, columns, seed=seed)
    plan = transport.sinkhorn(cost, entropy=entropy, tolerance=1e-8, max_iterations=10**5).coupling
    assert marginals_hold(plan, 1e-8)
    rest = plan.log() + cost / entropy
    rest = rest - rest.mean(1, keepdim=True) - rest.mean(2, keepdim=True) + rest.mean((1, 2), keepdim=True)
    np.testing.assert_allclose(rest.numpy(), 0, atol=1e-8)  # exponents to 400 in float64


@pytest.mark.parametrize(("name", "value"), [("entropy", 0.0), ("entropy", math.nan), ("tolerance", -1.0)])
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(UsageError, match=name):
        transport.couple(torch.ones(1, 2, 2), "sinkhorn", SolverSettings(**{name: value}))


def test_an_unknown_solver_gets_its_near_miss():
    with pytest.raises(UsageError, match="did you mean sinkhorn"):
        transport.couple(torch.ones(1, 2, 2), "sinkhron")


@pytest.mark.parametrize("solver", ["assignment", "low_rank"])
def test_a_gradient_through_an_exact_plan_is_refused(solver):
    with pytest.raises(UsageError, match="has no gradient"):
        transport.couple(torch.ones(1, 2, 2), solver, SolverSettings(gradient=True))


def test_solvers_by_name_are_the_functions():
    cost = rectangle(2, 6, 6)
    settings = {"entropy": 0.3, "max_iterations": 100, "tolerance": 1e-9}
    by_name = {
        solver: transport.couple(cost, solver, SolverSettings(**settings)).coupling for solver in transport.SOLVERS
    }
    assert torch.equal(by_name["assignment"], transport.assignment(cost).coupling)
    assert torch.equal(by_name["sinkhorn"], transport.sinkhorn(cost, **settings).coupling)
    assert torch.equal(by_name["unbalanced"], transport.unbalanced(cost, marginal=0.5, **settings).coupling)
    torch.testing.assert_close(pot(cost).coupling, by_name["assignment"])  # random costs have one optimum
