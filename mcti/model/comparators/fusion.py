"""Networks of slides and genes: fused late, by co-attention, and by optimal-transport co-attention."""

import torch
from torch import Tensor, nn

from mcti.model.axes import config_after_axes
from mcti.model.comparators.base import Comparator, Reading
from mcti.model.comparators.genes import GeneSets, self_normalising
from mcti.model.comparators.pooling import GatedAttention, embedding
from mcti.model.network import gene_cost
from mcti.model.presets import ModelConfig
from mcti.model.streams import SelfAttention
from mcti.model.transport import unbalanced


class LateFusion(Comparator):
    """ABMIL of the slides and an SNN of the genes, joined by one hidden layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        after_axes = config_after_axes(config)
        self.embed = embedding(after_axes)
        self.pool = GatedAttention(config.width)
        self.hidden = self_normalising((len(after_axes.genes), config.gene_width, config.width), config.gene_dropout)
        self.join = nn.Sequential(nn.Linear(2 * config.width, config.width), nn.ReLU())

    def read(self, patches: Tensor, mask: Tensor, genes: Tensor) -> Reading:
        """patches (b, N, D_in), mask (b, N), genes (b, G) -> vector (b, D); see Comparator."""
        slide, attention = self.pool(self.embed(patches), mask)
        return Reading(self.join(torch.cat([slide, self.hidden(genes)], 1)), attention)


class MCAT(Comparator):
    """Gene-guided co-attention (after Chen et al. 2021, ICCV): T gene sets attend over the patches by one head.

    The T outputs and the T gene tokens pass through one transformer each, are pooled by gated attention and joined.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        after_axes = config_after_axes(config)
        self.embed = embedding(after_axes)
        self.sets = GeneSets(after_axes)
        self.transformers = nn.ModuleList(SelfAttention(1, config.attention_depth, config) for _ in range(2))
        self.pools = nn.ModuleList(GatedAttention(config.width) for _ in range(2))
        self.join = nn.Sequential(nn.Linear(2 * config.width, config.width), nn.ReLU())
        self.coupler()

    def coupler(self) -> None:
        """Create the parameters of the coupling."""
        width = self.config.width
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))

    def couple(self, patches: Tensor, mask: Tensor, genes: Tensor) -> tuple[Tensor, Tensor]:
        """Patch tokens (b, N, D), gene tokens (b, T, D) -> outputs (b, T, D), attention (b, T, N)."""
        width = patches.shape[-1]
        scores = self.to_q(genes) @ self.to_k(patches).transpose(1, 2) * width**-0.5
        weights = scores.masked_fill(~mask[:, None], -torch.inf).softmax(-1)
        return weights @ self.to_v(patches), weights

    def read(self, patches: Tensor, mask: Tensor, genes: Tensor) -> Reading:
        """patches (b, N, D_in), mask (b, N), genes (b, G) -> vector (b, D); weights are means over the gene sets."""
        gene_tokens = self.sets(genes)
        outputs, weights = self.couple(self.embed(patches), mask, gene_tokens)
        pooled = [
            pool(transformer(tokens[None], None)[0])[0]
            for tokens, transformer, pool in zip((outputs, gene_tokens), self.transformers, self.pools, strict=True)
        ]
        return Reading(self.join(torch.cat(pooled, 1)), weights.mean(1), weights.transpose(1, 2))


class MOTCat(MCAT):
    """MCAT with an unbalanced optimal-transport plan instead of attention (after Xu and Chen 2023, ICCV).

    The output of a gene token is the mean of the patches, weighted by their mass. The plan is a constant for autograd.
    """

    def coupler(self) -> None:
        """The plan has no parameters."""

    def couple(self, patches: Tensor, mask: Tensor, genes: Tensor) -> tuple[Tensor, Tensor]:
        """Patches (b, N, D), mask (b, N), genes (b, T, D); see MCAT."""
        config = self.config
        with torch.no_grad():
            plan = unbalanced(
                gene_cost(patches, genes, mask),
                entropy=config.gene_entropy,
                marginal=config.gene_marginal,
                max_iterations=config.iterations,
                tolerance=config.tolerance,
                measure=config.gene_measure,
                mask_rows=mask,
            ).coupling.transpose(1, 2)  # (b, T, N)
            weights = (plan / plan.sum(-1, keepdim=True).clamp_min(torch.finfo(plan.dtype).tiny)).to(patches.dtype)
        return weights @ patches, weights
