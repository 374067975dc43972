"""Claims: batched couplings cost at most a quarter of POT's one by one, and give the same plans.

Peer: POT, one item after the other on the CPU in float64, each with its round trip of tensors, as the reference does.
Run: python -m benchmarks.model_transport [--rounds 9] [--threads 1]
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import ot
import torch
from torch import Tensor

from mcti.model import transport

Solver = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Claim:
    """One row of the table: two ways to the same answer; goal is the ratio promised, 0 where only reported."""

    name: str
    cost: Tensor
    ours: Solver
    peer: Solver
    goal: float
    gap: Callable[[Tensor, Tensor, Tensor], float]


def interleaved(ours: Callable[[], Tensor], peer: Callable[[], Tensor], rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each, A B A B …: both meet the same noise."""
    times: tuple[list[float], list[float]] = ([], [])
    for work in (ours, peer):
        work()
    for _ in range(rounds):
        for work, seconds in zip((ours, peer), times, strict=True):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
    return times


def tokens_cost(batch: int, count: int, spread: float, width: int = 256) -> Tensor:
    """Standardised squared distances between `count` tokens and as many others, around one mean each, float32.

    spread 1: as different as random tokens are; 1e-3: near-identical, as before training.
    """
    generator = torch.Generator().manual_seed(0)

    def some() -> Tensor:
        """(batch, count, width) tokens around a mean of their own."""
        mean = torch.randn(batch, 1, width, generator=generator, dtype=torch.float64)
        return mean + spread * torch.randn(batch, count, width, generator=generator, dtype=torch.float64)

    cost = torch.cdist(some(), some(), compute_mode="donot_use_mm_for_euclid_dist").square()
    cost = cost - cost.mean((1, 2), keepdim=True)
    return (cost / cost.std((1, 2), keepdim=True)).float()


def genes_cost(batch: int, patches: int, tokens: int, width: int = 1024) -> Tensor:
    """Squared distances of patches and gene tokens over their largest, float32."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.rand(batch, count, width, generator=generator) for count in (patches, tokens))
    cost = torch.cdist(left, right).square()
    return cost / cost.amax((1, 2), keepdim=True)


def emd_one_by_one(cost: Tensor) -> Tensor:
    """The reference's coupling: each matrix to the CPU in float64, ot.emd, and back."""
    size = cost.shape[1]
    mass = torch.full((size,), 1 / size, dtype=torch.float64).numpy()
    plans = [torch.from_numpy(ot.emd(mass, mass, one.cpu().double().numpy(), numItermax=10**7)) for one in cost]
    return torch.stack([plan.to(cost.device, cost.dtype) for plan in plans])


def unbalanced_one_by_one(cost: Tensor) -> Tensor:
    """The reference's co-attention plan, patient by patient: POT's generalised Sinkhorn with its own settings."""
    plans = []
    for one in cost:
        table = one.cpu().double().numpy()
        plans.append(torch.from_numpy(ot.sinkhorn_unbalanced([], [], table, 0.1, 0.5, reg_type="entropy")))
    return torch.stack(plans).to(cost.device, cost.dtype)


def exact(cost: Tensor) -> Tensor:
    """mcti, one to one."""
    return transport.assignment(cost).coupling


def soft(cost: Tensor) -> Tensor:
    """mcti, with soft marginals, at the reference's settings."""
    return transport.unbalanced(cost, entropy=0.1, marginal=0.5).coupling


def entropic(cost: Tensor) -> Tensor:
    """mcti, with fixed marginals, as far as preset `compact` would iterate."""
    return transport.sinkhorn(cost, entropy=0.1, tolerance=1e-3).coupling


def objective_gap(cost: Tensor, ours: Tensor, peer: Tensor) -> float:
    """Largest difference of <P, cost>, as a share of the mean |cost|: exact plans agree in cost, not in entries."""
    values = [(cost.double() * plan).sum((1, 2)) for plan in (ours.double(), peer.double())]
    return float(((values[0] - values[1]).abs() / cost.double().abs().mean((1, 2))).max())


def entry_gap(_: Tensor, ours: Tensor, peer: Tensor) -> float:
    """Largest difference of a plan's entry."""
    return float((ours - peer).abs().max())


def claims() -> list[Claim]:
    """Every row of the table, from the paper's shape to the compact ones."""
    rows = []
    for batch, count in ((2, 512), (16, 128), (32, 128), (32, 64)):
        for words, spread in (("distinct", 1.0), ("near-identical", 1e-3)):
            cost = tokens_cost(batch, count, spread)
            name = f"assignment {batch}x{count}x{count}, {words}"
            rows.append(Claim(name, cost, exact, emd_one_by_one, 4.0, objective_gap))
    for batch, patches, tokens in ((1, 256, 8), (8, 256, 8), (32, 256, 8), (8, 96, 8), (32, 96, 8)):
        cost = genes_cost(batch, patches, tokens)
        goal = 4.0 if batch > 1 else 0.0  # one patient is no batch
        rows.append(Claim(f"unbalanced {batch}x{patches}x{tokens}", cost, soft, unbalanced_one_by_one, goal, entry_gap))
    for words, spread in (("distinct", 1.0), ("near-identical", 1e-3)):
        cost = tokens_cost(32, 128, spread)
        name = f"assignment against sinkhorn(0.1, 1e-3) 32x128x128, {words}"
        rows.append(Claim(name, cost, exact, entropic, 0.0, objective_gap))
    return rows


def measured(claim: Claim, rounds: int) -> str:
    """One line: medians, the ratio with its quartiles over the rounds, the gap between the answers."""
    ours, peer = interleaved(lambda: claim.ours(claim.cost), lambda: claim.peer(claim.cost), rounds)
    ratios = [slow / fast for fast, slow in zip(ours, peer, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    gap = claim.gap(claim.cost, claim.ours(claim.cost), claim.peer(claim.cost))
    verdict = "" if not claim.goal else ("met" if middle >= claim.goal else "MISSED")
    goal = f"{claim.goal:.0f}x" if claim.goal else "-"
    times = f"{1e3 * statistics.median(ours):9.2f} {1e3 * statistics.median(peer):9.2f}"
    return f"{claim.name:66} {times} {middle:7.1f} [{low:.1f}, {high:.1f}] {goal:>5} {verdict:7} {gap:.1e}"


def main() -> None:
    """Print the table, a line at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="of each pair, at least 5")
    parser.add_argument("--threads", type=int, default=1, help="of torch and of the exact solver")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore", message="If reg_type = entropy")
    versions = f"POT {ot.__version__}, torch {torch.__version__}"
    print(f"peer: {versions}, {arguments.threads} thread(s), {arguments.rounds} rounds")
    print(f"{'':66} {'ours/ms':>9} {'peer/ms':>9} {'ratio':>7} [quartiles]  goal         gap")
    for claim in claims():
        print(measured(claim, max(arguments.rounds, 5)), flush=True)


if __name__ == "__main__":
    main()
