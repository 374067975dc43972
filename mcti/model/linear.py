"""A Cox model beside the network: linear in the mean patch, the genes and the covariates (docs/model.md, section 6).

With some hundred patients a penalised linear model is as good as any network, and errs on other patients: the mean of
the two log hazards is better than the network alone (docs/results.md, `stack`). Its numbers are fitted in closed form
after the network was trained (mcti/training/linear.py), not learned with it, and stored with the weights.
"""

import torch
from torch import Tensor, nn

from mcti.model.clinical import read_covariates
from mcti.model.presets import ModelConfig


class LinearPath(nn.Module):
    """Hazard logits (b, B) of a network -> (1 - share) times these + share times those of the Cox model.

    share () from 0 to 1; base (B,) hazard logits of a patient whose score is 0; genes (G,), features (D_in,),
    covariates (2V,) log hazard ratios of one unit of the standardised input. All 0, and nothing changed, before the
    fit. What a patient lacks stands at its training mean, which is 0, and adds nothing.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        sizes = {"genes": len(config.genes), "features": config.features, "covariates": 2 * len(config.covariates)}
        for name, size in {"share": None, "base": config.bins, **sizes}.items():
            self.register_buffer(name, torch.zeros([] if size is None else size))
        self.share: Tensor
        self.base: Tensor
        self.genes: Tensor
        self.features: Tensor
        self.covariates: Tensor

    def scores(
        self,
        patches: Tensor,
        mask: Tensor,
        genes: Tensor,
        covariates: Tensor | None,
        slides_present: Tensor | None,
        genes_present: Tensor | None,
    ) -> Tensor:
        """Inputs as `MCTI.forward` takes them -> log hazard ratio of each patient (b,)."""
        tiles = (self.tiles(patches) * mask).sum(1) / mask.sum(1)  # a padded row is finite, and counts 0
        told = genes.to(self.genes.dtype) @ self.genes
        total = self._here(tiles, slides_present) + self._here(told, genes_present)
        return total if covariates is None else total + self.clinical(read_covariates(covariates))

    def tiles(self, patches: Tensor) -> Tensor:
        """(b, N, D_in) -> (b, N): the mean over a patient's tiles is what the slides say of them."""
        return patches.to(self.features.dtype) @ self.features

    def clinical(self, read: Tensor) -> Tensor:
        """What `read_covariates` gave, (b, 2V) -> (b,)."""
        return read.to(self.covariates.dtype) @ self.covariates

    def forward(self, logits: Tensor, scores: Tensor) -> Tensor:
        """The weighted mean of the two models' hazard logits, (b, B), scores (b,) -> (b, B)."""
        return (1 - self.share) * logits + self.share * (self.base + scores[:, None])

    @staticmethod
    def _here(values: Tensor, present: Tensor | None) -> Tensor:
        return values if present is None else values * present
