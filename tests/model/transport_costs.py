"""Random, degenerate and adversarial costs for the transport tests."""

from collections.abc import Iterator

import torch
from torch import Tensor


def _tokens(n: int, width: int, spread: float, generator: torch.Generator) -> Tensor:
    """n tokens around one mean: a small spread makes them near-identical, as those of an untrained network."""
    mean = torch.randn(1, width, generator=generator, dtype=torch.float64)
    return mean + spread * torch.randn(n, width, generator=generator, dtype=torch.float64)


def _standard(cost: Tensor) -> Tensor:
    spread = cost.std(correction=0)
    return (cost - cost.mean()) / (spread if spread > 0 else 1.0)


def _between(n: int, width: int, spread: float, generator: torch.Generator) -> Tensor:
    left, right = (_tokens(n, width, spread, generator) for _ in range(2))
    return _standard(torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist").square())


def _repeated(n: int, generator: torch.Generator) -> Tensor:
    """Three different tokens on either side, each many times: ties everywhere."""
    left, right = (torch.randn(3, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    few = torch.cdist(left, right).square()
    rows, columns = (torch.randint(3, (n,), generator=generator) for _ in range(2))
    return _standard(few[rows][:, columns])


def families(n: int, seed: int) -> Iterator[tuple[str, Tensor]]:
    """Square float64 costs (n, n) by name."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(n, n, generator=generator, dtype=torch.float64)
    step = torch.arange(1.0, n + 1, dtype=torch.float64)
    yield "uniform", uniform
    yield "tokens", _between(n, 32, 1.0, generator)
    yield "near-identical tokens", _between(n, 32, 1e-4, generator)
    yield "two directions", _between(n, 2, 1.0, generator)
    yield "one direction", _between(n, 1, 1.0, generator)
    yield "repeated tokens", _repeated(n, generator)
    yield "small integers", torch.randint(3, (n, n), generator=generator).double()
    yield "all equal", torch.full((n, n), 0.7, dtype=torch.float64)
    yield "all zero", torch.zeros(n, n, dtype=torch.float64)
    yield "equal but for rounding", 1.0 + 1e-15 * torch.randint(3, (n, n), generator=generator)
    yield "products", step[:, None] * step  # Machol and Wien: every augmentation is as long as can be
    yield "row and column effects", 100 * step[:, None] + 10 * step + 1e-3 * uniform
    yield "one dear row", torch.where(step[:, None] == 1, 1e6 + uniform, uniform)
    yield "identity hidden", 1.0 - torch.eye(n, dtype=torch.float64)
    yield "negative", -5.0 - uniform
    yield "powers of ten", 10.0 ** torch.randint(-8, 8, (n, n), generator=generator)
    yield "huge", 1e200 * uniform
    yield "tiny", 1e-200 * uniform


SIZES = (1, 2, 3, 7, 24, 48)


def squares(seeds: int) -> Iterator[tuple[str, Tensor]]:
    """Every family at every size, under `seeds` seeds each."""
    for n in SIZES:
        for seed in range(seeds):
            for name, cost in families(n, seed):
                yield f"{name}, n={n}, seed={seed}", cost
