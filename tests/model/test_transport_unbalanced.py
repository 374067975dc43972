"""Generalised Sinkhorn against POT 0.9.7, closed forms and its own logarithmic form."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mcti.errors import DataError, UsageError
from mcti.model import transport
from mcti.model.transport import SolverSettings
from tests.model.pot_oracle import pot
from tests.model.transport_costs import SIZES, squares

CONVERGED = {"tolerance": 1e-13, "max_iterations": 10**5}


def rectangle(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("measure", ["entropy", "kl"])
@pytest.mark.parametrize(("patches", "tokens"), [(64, 8), (8, 64), (1, 5), (5, 1)])
@pytest.mark.parametrize(("entropy", "marginal"), [(0.1, 0.5), (1.0, 0.05), (0.05, 2.0)])
def test_plan_agrees_with_pot(measure, patches, tokens, entropy, marginal):
    cost = rectangle(3, patches, tokens)
    weights = {"entropy": entropy, "marginal": marginal, "measure": measure, **CONVERGED}
    ours, theirs = transport.unbalanced(cost, **weights), pot(cost, problem="unbalanced", **weights)
    torch.testing.assert_close(ours.coupling, theirs.coupling, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("n", SIZES)
def test_plan_agrees_with_pot_on_every_family(n):
    """540 random, degenerate and adversarial costs, divided by their largest as section 3 does, the paper's weights."""
    names, costs = zip(*((name, cost) for name, cost in squares(seeds=5) if len(cost) == n), strict=True)
    cost = torch.stack(costs)
    cost = cost / cost.abs().amax((1, 2), keepdim=True).clamp_min(1e-300)
    weights = {"entropy": 0.1, "marginal": 0.5, "tolerance": 1e-12}
    ours, theirs = transport.unbalanced(cost, **weights), pot(cost, problem="unbalanced", **weights)
    for name, our, their in zip(names, ours.coupling, theirs.coupling, strict=True):
        torch.testing.assert_close(our, their, rtol=1e-6, atol=1e-12, msg=name)


@pytest.mark.parametrize("measure", ["entropy", "kl"])
def test_the_papers_setting_agrees_with_pots_default_call(measure):
    """256 patches, 8 tokens, float32, entropy 0.1, marginal 0.5, 1,000 iterations, 1e-6: as the reference calls POT."""
    cost = rectangle(2, 256, 8).float()
    ours = transport.unbalanced(cost, entropy=0.1, marginal=0.5, measure=measure)
    theirs = pot(cost, problem="unbalanced", entropy=0.1, marginal=0.5, measure=measure)
    torch.testing.assert_close(ours.coupling, theirs.coupling, rtol=0, atol=1e-6)
    assert (ours.error <= 1e-6).all()


@pytest.mark.parametrize("cost", [0.0, 0.8, 30.0, 500.0])
def test_one_patch_one_token_by_hand(cost):
    """One patch, one token, cost m: the mass kept is exp(-m / (2 * marginal + entropy))."""
    plan = transport.unbalanced(
        torch.full((1, 1, 1), cost, dtype=torch.float64), entropy=0.1, marginal=0.5, **CONVERGED
    )
    assert plan.coupling.item() == pytest.approx(math.exp(-cost / 1.1), rel=1e-9)


def test_kl_measure_and_all_ones_measure_differ_by_a_constant_in_the_cost():
    """With uniform masses the product measure is 1 / (n m) throughout: a cost of entropy * log(n m)."""
    cost = rectangle(2, 10, 4)
    weights = {"entropy": 0.3, "marginal": 0.5, **CONVERGED}
    product = transport.unbalanced(cost, measure="kl", **weights).coupling
    shifted = transport.unbalanced(cost + 0.3 * math.log(40), measure="entropy", **weights).coupling
    torch.testing.assert_close(product, shifted, rtol=1e-10, atol=0)


def test_a_heavy_marginal_weight_gives_the_balanced_plan():
    cost = rectangle(3, 12, 9)
    soft = transport.unbalanced(cost, entropy=0.2, marginal=1e7, tolerance=1e-6, max_iterations=10**5)
    hard = transport.sinkhorn(cost, entropy=0.2, tolerance=1e-12)
    assert (soft.error <= 1e-6).all()
    torch.testing.assert_close(soft.coupling, hard.coupling, rtol=1e-5, atol=0)


@pytest.mark.parametrize("measure", ["entropy", "kl"])
def test_scalings_and_logarithms_agree(measure):
    """One large cost switches the whole problem to logarithms; the other patches do not change."""
    near = rectangle(1, 20, 6)
    far = torch.cat([near, torch.full((1, 20, 1), 1e4, dtype=torch.float64)], 2)
    weights = {"entropy": 0.1, "marginal": 0.5, "measure": measure, **CONVERGED}
    columns = torch.tensor([[True] * 6 + [False]])
    masked = transport.unbalanced(far, mask_columns=columns, **weights).coupling
    plain = transport.unbalanced(near, **weights).coupling
    torch.testing.assert_close(masked[:, :, :6], plain, rtol=1e-9, atol=0)
    stretched = transport.unbalanced(near * 300, entropy=30.0, marginal=150.0, measure=measure, **CONVERGED).coupling
    torch.testing.assert_close(stretched, plain, rtol=1e-9, atol=0)  # all in units three hundred times smaller
    exact = transport.unbalanced(near * 300, entropy=0.1, marginal=0.5, measure=measure, **CONVERGED)
    rows = exact.coupling.sum(2)[0]
    assert exact.coupling.isfinite().all()
    assert (rows <= math.exp(-float(near.min()) * 300 / 1.1)).all()  # no patch keeps more than the nearest alone would


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("marginal", [1e-300, 0.5, 1e300])
@pytest.mark.parametrize("entropy", [1e-300, 0.1, 1e300])
def test_no_finite_cost_gives_nan(dtype, entropy, marginal):
    noise = rectangle(2, 7, 5)
    cost = torch.cat([noise, noise * 0, noise * float(torch.finfo(dtype).max) / 2, noise * 1e-30]).to(dtype)
    plan = transport.unbalanced(cost, entropy=entropy, marginal=marginal, max_iterations=40)
    assert plan.coupling.isfinite().all()
    assert plan.error.isfinite().all()
    assert plan.coupling.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_mass_beyond_all_numbers_is_an_error_not_an_infinity():
    with pytest.raises(DataError, match="overflows"):
        transport.unbalanced(torch.full((1, 2, 2), -1e6), entropy=0.1, marginal=0.5)


def test_the_error_bounds_the_distance_to_the_fixed_point():
    cost = rectangle(4, 30, 8)
    final = transport.unbalanced(cost, entropy=0.1, marginal=0.5, **CONVERGED).coupling
    for limit in (1, 2, 5, 9):
        plan = transport.unbalanced(cost, entropy=0.1, marginal=0.5, tolerance=1e-14, max_iterations=limit)
        missing = (plan.coupling.log() - final.log()).abs().amax((1, 2))
        assert plan.iterations == limit
        # x of the last round was made from the y before: its error is the bound's over f = 5/6; y's is the bound.
        assert (missing <= plan.error * (1 + 6 / 5)).all()
        assert (missing > 0).all()


def test_an_item_does_not_depend_on_its_neighbours_or_its_padding():
    generator = torch.Generator().manual_seed(0)
    counts = ((9, 3), (4, 5), (1, 1), (0, 4), (0, 0))
    padded = torch.full((5, 11, 6), torch.nan, dtype=torch.float64)
    rows, columns = torch.zeros(5, 11, dtype=torch.bool), torch.zeros(5, 6, dtype=torch.bool)
    for item, (n, m) in enumerate(counts):
        rows[item, 1 : 1 + n], columns[item, :m] = True, True
        padded[item, 1 : 1 + n, :m] = torch.rand(n, m, generator=generator, dtype=torch.float64) * 4**item
    for measure in ("entropy", "kl"):
        weights = {"entropy": 0.1, "marginal": 0.5, "measure": measure}
        plan = transport.unbalanced(padded, mask_rows=rows, mask_columns=columns, **weights).coupling
        for item, (n, m) in enumerate(counts):
            inside = padded[item : item + 1, 1 : 1 + n, :m]
            alone = transport.unbalanced(inside, **weights).coupling[0] if n and m else inside[0]
            torch.testing.assert_close(plan[item, 1 : 1 + n, :m], alone, rtol=1e-6, atol=0)
        assert plan[~(rows[:, :, None] & columns[:, None])].abs().max() == 0


@pytest.mark.parametrize("measure", ["entropy", "kl"])
def test_gradient_through_the_plan_is_that_of_finite_differences(measure):
    cost = rectangle(2, 5, 3).requires_grad_()
    columns = torch.tensor([[True] * 3, [True, False, True]])

    def plan(c):
        return transport.unbalanced(
            c, entropy=0.2, marginal=0.5, measure=measure, mask_columns=columns, gradient=True, **CONVERGED
        ).coupling

    assert torch.autograd.gradcheck(plan, (cost,), atol=1e-6)


def test_the_plan_is_a_constant_unless_asked():
    cost = rectangle(1, 4, 4).requires_grad_()
    assert not transport.unbalanced(cost, entropy=0.1, marginal=0.5).coupling.requires_grad


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 8),
    columns=st.integers(1, 8),
    entropy=st.floats(0.02, 5),
    marginal=st.floats(0.02, 5),
    seed=st.integers(0, 10**6),
)
def test_the_plan_meets_the_optimality_conditions(rows, columns, entropy, marginal, seed):
    """log P = x + y - cost / entropy, and every row loses mass by exp(-entropy x / marginal): Chizat et al. 2018."""
    cost = rectangle(1, rows, columns, seed=seed)
    plan = transport.unbalanced(cost, entropy=entropy, marginal=marginal, **CONVERGED).coupling
    x = -(marginal / entropy) * (plan.sum(2) * rows).log()
    y = -(marginal / entropy) * (plan.sum(1) * columns).log()
    torch.testing.assert_close(plan.log(), x[:, :, None] + y[:, None] - cost / entropy, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "value"), [("entropy", -0.1), ("marginal", 0.0), ("marginal", math.inf), ("measure", "kld")]
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(UsageError, match=name):
        transport.couple(torch.ones(1, 2, 2), "unbalanced", SolverSettings(**{name: value}))
