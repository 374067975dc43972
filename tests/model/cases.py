"""Small networks and batches that the tests of this package share."""

import torch
from torch import Tensor

from mcti.model.network import MCTI, Prediction
from mcti.model.presets import ModelConfig, preset

FEATURES, GENES = 12, tuple(f"G{number}" for number in range(9))


def config(name: str = "tiny", **overrides: object) -> ModelConfig:
    fields = {"features": FEATURES, "genes": GENES, "classes": ("a", "b"), "bins": 4}
    return preset(name, **(fields | overrides))


def small_paper(**overrides: object) -> ModelConfig:
    sizes = {"width": 8, "query": 6, "critical": 5, "tokens": 2, "task_tokens": 4, "gene_width": 10}
    return config("paper", **(sizes | overrides))


def network(of: ModelConfig, seed: int = 0, *, loud: bool = True) -> MCTI:
    """A network with seeded weights, its axes fitted; `loud` also randomises the zero-initialised weights."""
    torch.manual_seed(seed)
    net = MCTI(of)
    generator = torch.Generator().manual_seed(seed)
    if net.axes.genes is not None:
        net.axes.fit_genes(torch.randn(200, len(of.genes), generator=generator))
    if net.axes.features is not None:
        net.axes.fit_features([torch.randn(200, of.features, generator=generator)])
    if loud:
        for parameter in net.parameters():
            if not bool(parameter.any()):
                torch.nn.init.normal_(parameter, std=0.2)
    return net


def batch(sizes: list[int], seed: int = 1, features: int = FEATURES) -> tuple[Tensor, Tensor, Tensor]:
    """Bags of these sizes, padded with sevens, so that any influence of the padding is visible; mask; genes."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(sizes)
    patches = torch.full((len(sizes), longest, features), 7.0)
    mask = torch.arange(longest)[None] < torch.tensor(sizes)[:, None]
    for row, size in enumerate(sizes):
        patches[row, :size] = torch.randn(size, features, generator=generator)
    return patches, mask, torch.randn(len(sizes), len(GENES), generator=generator)


def survival_loss(prediction: Prediction, bins: Tensor, event: Tensor) -> Tensor:
    """Mean negative log-likelihood of discrete hazards, with equal weights."""
    hazard = torch.nn.functional.logsigmoid(prediction.hazard_logits)
    stays = torch.nn.functional.logsigmoid(-prediction.hazard_logits)
    before = (stays.cumsum(1) - stays).gather(1, bins[:, None])[:, 0]
    last = torch.where(event, hazard.gather(1, bins[:, None])[:, 0], stays.gather(1, bins[:, None])[:, 0])
    return -(before + last).mean()
