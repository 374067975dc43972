"""Self-normalising networks of gene expression."""

import itertools

import torch
from torch import Tensor, nn

from mcti.model.axes import config_after_axes
from mcti.model.comparators.base import Comparator, Reading
from mcti.model.dropout import AlphaDropout
from mcti.model.presets import ModelConfig


def self_normalising(widths: tuple[int, ...], dropout: float) -> nn.Sequential:
    """Layers (b, widths[0]) -> (b, widths[-1]) of Linear, ELU and AlphaDropout.

    Klambauer et al. 2017, NeurIPS; ELU as in MCAT. dropout: share of the values that are dropped.
    """
    layers = [
        nn.Sequential(nn.Linear(narrow, wide), nn.ELU(), AlphaDropout(dropout))
        for narrow, wide in itertools.pairwise(widths)
    ]
    return nn.Sequential(*layers)


class SNN(Comparator):
    """Genes alone, two self-normalising layers."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        genes = len(config_after_axes(config).genes)
        self.hidden = self_normalising((genes, config.gene_width, config.width), config.gene_dropout)

    def read(self, patches: Tensor, mask: Tensor, genes: Tensor) -> Reading:  # noqa: ARG002 - genes alone
        """patches (b, N, D_in), mask (b, N), genes (b, G) -> vector (b, D); see Comparator."""
        return Reading(self.hidden(genes))


class GeneSets(nn.Module):
    """T disjoint sets of genes, each mapped to a token by its own self-normalising layer: genes (b, G) -> (b, T, D).

    MCAT uses six functional categories of signatures. Without such lists the sets are a fixed random partition that
    depends on G and T alone.
    """

    source: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        genes, sets = len(config.genes), config.tokens
        longest = -(-genes // sets)
        order = torch.randperm(genes, generator=torch.Generator().manual_seed(genes))
        # Shorter sets are padded with the index after the last gene, where the value is always 0.
        source = torch.cat([order, torch.full((sets * longest - genes,), genes)]).view(longest, sets).T
        self.register_buffer("source", source.contiguous())
        bound = longest**-0.5
        self.weight = nn.Parameter(torch.empty(sets, longest, config.width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(sets, config.width))
        self.after = nn.Sequential(nn.ELU(), AlphaDropout(config.gene_dropout))

    def forward(self, genes: Tensor) -> Tensor:
        """(b, G) -> (b, T, D)."""
        padded = torch.cat([genes, genes.new_zeros(len(genes), 1)], 1)
        tokens = torch.einsum("btg,tgd->btd", padded[:, self.source], self.weight) + self.bias
        out: Tensor = self.after(tokens)
        return out
