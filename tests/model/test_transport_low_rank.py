"""Low-rank couplings against POT 0.9.7, the exact solver and closed forms."""

import pytest
import torch

from mcti.errors import DataError, UsageError
from mcti.model import transport
from mcti.model.transport import SolverSettings
from tests.model.cases import batch, config, network
from tests.model.transport_costs import squares


def clouds(n: int, m: int, width: int = 6, batch: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(batch, k, width, generator=random, dtype=torch.float64) for k in (n, m))


def distances(x, y):
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()


def marginals_hold(plan, n, m, tolerance=1e-12):
    rows, columns = plan.coupling.sum(2) * n - 1, plan.coupling.sum(1) * m - 1
    return bool((rows.abs() <= tolerance).all() and (columns.abs() <= tolerance).all())


@pytest.mark.parametrize("n", [1, 7, 24])
def test_marginals_are_uniform_and_the_cost_is_between_exact_and_independent(n):
    """Every family of costs, twenty iterations: the rounding makes the marginals exact before convergence, too."""
    named = [(name, cost) for name, cost in squares(seeds=1) if len(cost) == n and not name.startswith("huge")]
    costs = torch.stack([cost for _, cost in named])
    plan = transport.low_rank(costs, rank=4, max_iterations=20, tolerance=1e-6)
    assert marginals_hold(plan, n, n)
    assert (plan.coupling >= 0).all()
    assert (plan.error <= 1e-12).all()
    reached, exact = ((costs * one.coupling).sum((1, 2)) for one in (plan, transport.assignment(costs)))
    rounding = 1e-9 * costs.abs().amax((1, 2))
    assert (reached >= exact - rounding).all()
    assert (reached <= costs.mean((1, 2)) + rounding).all()


def test_rank_one_is_the_independent_coupling():
    x, y = clouds(5, 8)
    plan = transport.low_rank_points(x, y, rank=1)
    torch.testing.assert_close(plan.coupling, torch.full_like(plan.coupling, 1 / 40), rtol=1e-12, atol=0)


def test_separate_clusters_are_coupled_exactly():
    """Four far clusters of three points each: a plan of rank 4 pairs them, at no more than the clusters' own width."""
    centres = 100 * torch.eye(4, dtype=torch.float64).repeat_interleave(3, 0)
    x = centres[None] + 0.01 * clouds(12, 12, 4, 1)[0]
    y = centres.flip(0)[None] + 0.01 * clouds(12, 12, 4, 1)[1]
    plan = transport.low_rank_points(x, y, rank=4)
    same = distances(centres[None], centres.flip(0)[None]) == 0
    assert plan.coupling[same].sum().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_cost_is_no_worse_than_that_of_pot():
    """Oracle: ot.lowrank.lowrank_sinkhorn, whose inner masses are free; both are local optima, hence 5 %."""
    import ot

    x, y = clouds(32, 32, batch=1)
    cost = distances(x, y)
    ours = (cost * transport.low_rank_points(x, y + 1, rank=4, tolerance=1e-5).coupling).sum().item()
    q, r, g = ot.lowrank.lowrank_sinkhorn(x[0].numpy(), y[0].numpy() + 1, rank=4, reg=0, init="kmeans", numItermax=60)
    theirs = float((cost[0].numpy() * (q / g @ r.T)).sum())
    assert ours <= 1.05 * theirs


def test_points_and_their_cost_give_the_same_plan_and_its_parts_the_same_product():
    x, y = clouds(9, 14)
    of_points = transport.low_rank_points(x, y, rank=3, max_iterations=40)
    of_cost = transport.couple(distances(x, y), "low_rank", SolverSettings(rank=3, max_iterations=40))
    cost = distances(x, y)
    one, other = ((cost * plan.coupling).sum() for plan in (of_points, of_cost))
    assert one.item() == pytest.approx(other.item(), rel=0.02)  # other units, other steps, the same valley
    tokens = clouds(9, 14)[1]
    torch.testing.assert_close(of_points.carry(tokens), of_points.coupling @ tokens)
    torch.testing.assert_close(of_points.transposed().carry(x), of_points.coupling.mT @ x)


def test_an_item_does_not_depend_on_its_neighbours_or_its_padding():
    x, y = clouds(6, 6, batch=2)
    padded = [torch.cat((side, torch.full((2, 3, 6), torch.nan, dtype=torch.float64)), 1) for side in (x, 5 * y)]
    mask = torch.arange(9).expand(2, 9) < 6
    together = transport.low_rank_points(*padded, rank=3, mask_rows=mask, mask_columns=mask).coupling
    assert together[:, 6:].abs().sum() + together[:, :, 6:].abs().sum() == 0
    for item in range(2):
        alone = transport.low_rank_points(x[item : item + 1], 5 * y[item : item + 1], rank=3).coupling[0]
        torch.testing.assert_close(together[item, :6, :6], alone, rtol=1e-6, atol=1e-12)


def test_no_table_of_all_pairs_is_made():
    """n = 3,000 twice: a float64 table of all pairs would be 72 MB; the largest tensor made here is 1 MB."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class LargestTensor(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
            nonlocal largest
            result = operation(*arguments, **(keywords or {}))
            for tensor in result if isinstance(result, tuple | list) else (result,):
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel())
            return result

    x, y = clouds(3000, 3000, batch=1)
    with LargestTensor():
        plan = transport.low_rank_points(x, y, rank=8, max_iterations=2)
        plan.carry(y)
    assert largest <= 3000 * 10
    assert plan.rows.shape == (1, 3000, 8)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e200])
def test_points_that_cannot_be_squared_are_refused(value):
    x, y = clouds(3, 3)
    x[1, 2, 0] = value
    with pytest.raises(DataError, match=r"item 1, row 2|too large"):
        transport.low_rank_points(x, y, rank=2)


def test_rank_nought_and_gradients_are_refused():
    with pytest.raises(UsageError, match="rank"):
        transport.low_rank_points(*clouds(3, 3), rank=0)
    with pytest.raises(UsageError, match="has no gradient"):
        transport.couple(torch.ones(1, 2, 2), "low_rank", SolverSettings(gradient=True))


def test_a_network_couples_by_it_and_its_padded_batch_gives_the_numbers_of_the_patients_one_by_one():
    net = network(config(solver="low_rank", rank=3)).eval()
    exact = network(config()).eval()
    patches, mask, genes = batch([9, 3])
    with torch.no_grad():
        together = net(patches, mask, genes, details=True)
        assert not torch.allclose(together.risk, exact(patches, mask, genes).risk)
        for row, size in enumerate((9, 3)):
            one = slice(row, row + 1)
            alone = net(patches[one, :size], mask[one, :size], genes[one]).risk
            torch.testing.assert_close(together.risk[one], alone, rtol=1e-5, atol=0)
    assert all(isinstance(coupling.plan, transport.LowRankPlan) for coupling in together.couplings)
    assert together.couplings[0].health().entropy.isfinite().all()
