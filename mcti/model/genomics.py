"""Genomic branch: gene expression to T tokens by adaptive grouping (docs/model.md, section 2)."""

import itertools
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from mcti.model.dropout import AlphaDropout, Dropout
from mcti.model.presets import ModelConfig


class DenseGenes(nn.Module):
    """The reference's function without its unused parameters: two self-normalising layers, then T·D values.

    genes (b, G) -> tokens (b, T, D) and no group weights. Its attention has a sequence of length one, so its softmax
    is 1 and only the value projection reaches the output.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths = (len(config.genes), config.gene_width, config.gene_width)
        self.hidden = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(narrow, wide), nn.ELU(), AlphaDropout(config.gene_dropout))
                for narrow, wide in itertools.pairwise(widths)
            )
        )
        self.value = nn.Linear(config.gene_width, config.tokens * config.width)
        self.tokens = config.tokens

    def forward(self, genes: Tensor) -> tuple[Tensor, Tensor | None]:
        """(b, G) -> (b, T, D), None; weights of float32 are applied in float32 under autocast, too.

        A patient is one row, so the time is that of reading the weights. Autocast would write and read them once more
        in each direction, to convert them.
        """
        with _without_conversion(self.value.weight):
            return self.value(self.hidden(genes)).unflatten(1, (self.tokens, -1)), None


class GroupedGenes(nn.Module):
    """T learned group queries attend over gene tokens; which gene a group reads is an output.

    Gene i of a patient, value x_i, is the token x_i·e_i under the key a_i + x_i·c_i (e, a, c learned, width w), so
    group t reads it with weight softmax_i(q_t·(a_i + x_i·c_i)/√w): the grouping differs between patients. The tokens
    (G, w) are never built: the products are taken factor by factor, O(b·T·G).

    genes (b, G) -> tokens (b, T, D), weights (b, T, G) that sum to 1 over the genes.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        count, inner = len(config.genes), config.gene_width
        self.queries = nn.Parameter(torch.randn(config.tokens, inner))
        self.names = nn.Parameter(torch.randn(count, inner))  # a, identity of gene i
        self.levels = nn.Parameter(torch.randn(count, inner) * 0.1)  # c, effect of its value
        self.contents = nn.Parameter(torch.randn(count, inner))  # e, its content
        self.groups = nn.Parameter(torch.randn(config.tokens, inner) * 0.1)  # offset of each group's token
        self.out = nn.Sequential(
            nn.Linear(inner, config.width),
            nn.ELU(),
            AlphaDropout(config.gene_dropout),
            nn.Linear(config.width, config.width),
        )
        self.drop = Dropout(config.gene_dropout)

    def forward(self, genes: Tensor) -> tuple[Tensor, Tensor | None]:
        """(b, G) -> (b, T, D), (b, T, G)."""
        scale = self.queries.shape[1] ** -0.5
        named = self.queries @ self.names.T * scale  # (T, G)
        levelled = self.queries @ self.levels.T * scale
        weights = (named + genes[:, None] * levelled).softmax(-1)  # (b, T, G)
        # With equal weights the mean of G values of unit variance has standard deviation G^-½: rescale it to one.
        values = self.drop(genes) * genes.shape[1] ** 0.5
        read = (weights * values[:, None]) @ self.contents * scale  # (b, T, w)
        return self.out(read + self.groups), weights


def _without_conversion(weight: Tensor) -> AbstractContextManager[object]:
    """Autocast off for weights of float32; those of bfloat16 (`mcti.training.bf16_adafactor`) need its conversions."""
    return torch.autocast(weight.device.type, enabled=False) if weight.dtype == torch.float32 else nullcontext()


def gene_branch(config: ModelConfig) -> DenseGenes | GroupedGenes:
    """The genomic branch of this configuration."""
    return DenseGenes(config) if config.gene_branch == "dense" else GroupedGenes(config)
