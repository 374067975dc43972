"""Branch of a ridge Cox model: linear in mean and spread of the patches, genes, covariates (docs/model.md, section 7).

With a few hundred patients a penalised linear model is as accurate as a network and its errors differ: the mean of
the two log hazards ranks better than the network alone (docs/results.md). The coefficients are fitted in closed form
after the training of the network (mcti/training/fit_cox_branch.py) and stored with the weights.
"""

import torch
from torch import Tensor, nn

from mcti.model.categories import indicator_positions
from mcti.model.clinical import read_covariates
from mcti.model.presets import ModelConfig


class CoxBranch(nn.Module):
    """Hazard logits (b, B) of a network -> (1 - cox_weight) times these + cox_weight times those of the Cox model.

    cox_weight  () from 0 to 1
    base        (B,) hazard logits of a patient whose score is 0
    genes       (G,) log hazard ratio of one unit of each standardised gene
    features    (D_in,) log hazard ratio of the mean of a feature over the patient's patches
    spreads     (D_in,) log hazard ratio of its standard deviation over these patches
    covariates  (V + C,) log hazard ratio of the covariates as `read_covariates` returns them
    spread_offset () contribution of `spreads` for the mean training patient; subtracted from the score
    gene_limit  () largest absolute value of a standardised gene: values beyond count as the limit; inf: no limit

    All coefficients are 0 before the fit and then change nothing. A missing input is at its training mean and adds
    nothing.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.block, self.indicators = config.block, indicator_positions(config.clinical_inputs)
        wide = {"features": config.features, "spreads": config.features, "covariates": config.clinical_width}
        for name, size in {"base": config.bins, "genes": len(config.genes), **wide}.items():
            self.register_buffer(name, torch.zeros(size))
        for name in ("cox_weight", "spread_offset"):
            self.register_buffer(name, torch.zeros([]))
        self.register_buffer("gene_limit", torch.tensor(torch.inf))
        self.cox_weight: Tensor
        self.gene_limit: Tensor
        self.spread_offset: Tensor
        self.base: Tensor
        self.genes: Tensor
        self.features: Tensor
        self.spreads: Tensor
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
        """Inputs as in `MCTI.forward` -> log hazard ratio of each patient (b,)."""
        mean, spread = moments(patches.to(self.features.dtype), mask, self.block)
        slides = self.dot(mean, self.features) + self.dot(spread, self.spreads) - self.spread_offset
        gene_scores = self.dot(self.limited(genes), self.genes)
        total = self._where_present(slides, slides_present) + self._where_present(gene_scores, genes_present)
        if covariates is None:
            return total
        return total + self.clinical(read_covariates(covariates, self.indicators))

    def tiles(self, patches: Tensor) -> Tensor:
        """Patches of patients (b, N, D_in) -> (b, N) contribution of each to the score.

        A standard deviation is the sum of its rows' shares (x - mean)² / (N sd).
        """
        rows, width = patches.to(self.features.dtype), patches.shape[-1]
        deviations = rows - rows.mean(1, keepdim=True)
        spread = deviations.square().mean(1).sqrt()[..., None]  # (b, D_in, 1)
        to_spread = torch.where(spread > 0, self.spreads.reshape(-1, width, 1) / spread, 0.0)
        total = rows @ self.features.reshape(-1, width, 1) + deviations.square() @ to_spread
        return (total[..., 0] - self.spread_offset.reshape(-1, 1)) / rows.shape[1]

    def limited(self, genes: Tensor) -> Tensor:
        """Standardised genes (b, G) -> (b, G) within the limit, in the precision of the coefficients."""
        return genes.to(self.genes.dtype).clamp(-self.gene_limit, self.gene_limit)

    def clinical(self, read: Tensor) -> Tensor:
        """Covariates of `read_covariates` (b, V + C) -> (b,) their part of the score."""
        return self.dot(read.to(self.covariates.dtype), self.covariates)

    def forward(self, logits: Tensor, scores: Tensor) -> Tensor:
        """The weighted mean of the two models' hazard logits, (b, B), scores (b,) -> (b, B)."""
        return (1 - self.cox_weight) * logits + self.cox_weight * self.alone(scores)

    def alone(self, scores: Tensor) -> Tensor:
        """The Cox model's own hazard logits: scores (b,) -> (b, B)."""
        return self.base + scores[:, None]

    def dot(self, values: Tensor, coefficients: Tensor) -> Tensor:
        """(b, p), (p,) -> (b,)."""
        return values @ coefficients

    @staticmethod
    def _where_present(values: Tensor, present: Tensor | None) -> Tensor:
        return values if present is None else values * present


def moments(patches: Tensor, mask: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (b, D_in) of the real rows of bags (b, N, D_in), mask (b, N), `block` rows at a time.

    A padded row must be finite; its weight is 0.
    """
    weight = mask.to(patches.dtype)[:, None] / mask.sum(1)[:, None, None]  # (b, 1, N)
    mean = weight @ patches
    variance = torch.zeros_like(mean)
    for start in range(0, patches.shape[1], block):
        variance = variance + weight[..., start : start + block] @ (patches[:, start : start + block] - mean).square()
    return mean[:, 0], variance[:, 0].sqrt()
