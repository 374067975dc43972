"""Common parts of all comparators: absent modalities, covariates, heads, and the Prediction of MCTI."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mcti.model.axes import Axes, config_after_axes
from mcti.model.categories import indicator_positions
from mcti.model.checks import check_inputs
from mcti.model.clinical import check_covariates, read_covariates
from mcti.model.cox_branch import CoxBranch
from mcti.model.dropout import Dropout
from mcti.model.hazards import hazard_and_survival, hazard_logits_of
from mcti.model.network import Prediction, require_all_modalities, to_compute_dtype
from mcti.model.presets import ModelConfig


@dataclass
class Reading:
    """Output of the body of a comparator.

    vector     (b, D) representation of the patient
    attention  (b, N) weight of each patch, a row sums to 1; None where the network has no such weight
    plan       (b, N, T) coupling of patches and gene tokens; None where the network has none
    """

    vector: Tensor
    attention: Tensor | None = None
    plan: Tensor | None = None


class Comparator(nn.Module, ABC):
    """A network that maps a patient to one vector, and the vector linearly to hazards.

    The subtype is a linear function of the detached vector, without influence on it unless `subtype_task` is on.
    Covariates enter the hazards by a linear path, initialised to zero. There is no instance classifier: its logits are
    0.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.axes = Axes(config)
        self.drop = Dropout(config.dropout)
        self.survival_head = nn.Linear(config.width, config.bins)
        self.subtype_head = nn.Linear(config.width, len(config.classes))
        self.absent = AbsentInputs(config_after_axes(config)) if config.missing else None
        self.clinical = nn.Linear(config.clinical_width, config.bins, bias=False) if config.covariates else None
        if self.clinical is not None:
            nn.init.zeros_(self.clinical.weight)
        self.cox_branch = CoxBranch(config) if config.cox_branch else None

    @abstractmethod
    def read(self, patches: Tensor, mask: Tensor, genes: Tensor) -> Reading:
        """patches (b, N, D_in), mask (b, N) True = real, genes (b, G) -> the patients' vectors."""

    def forward(
        self,
        patches: Tensor,
        mask: Tensor,
        genes: Tensor,
        *,
        slides_present: Tensor | None = None,
        genes_present: Tensor | None = None,
        covariates: Tensor | None = None,
        details: bool = False,  # noqa: ARG002 - MCTI's signature; a comparator has none of these outputs
    ) -> Prediction:
        """Predict a batch: patches (b, N, F), mask (b, N), genes (b, G); errors as in MCTI.forward."""
        check_inputs(self.config, patches, mask, genes, slides_present=slides_present, genes_present=genes_present)
        check_covariates(self.config, covariates, len(patches))
        weight_dtype = self.survival_head.weight.dtype
        (rows, values), real = (
            self.axes(to_compute_dtype(patches, weight_dtype), to_compute_dtype(genes, weight_dtype)),
            mask,
        )
        if self.absent is not None:
            rows, real, values = self.absent(rows, mask, values, slides_present, genes_present)
        else:
            require_all_modalities(slides_present, genes_present)
        reading = self.read(rows.masked_fill(~real[..., None], 0.0), real, values)
        dtype = torch.promote_types(reading.vector.dtype, torch.float32)  # logits are never half
        logits = self.survival_head(self.drop(reading.vector)).to(dtype)
        if self.clinical is not None and covariates is not None:
            indicators = indicator_positions(self.config.clinical_inputs)
            logits = logits + self.clinical(read_covariates(to_compute_dtype(covariates, weight_dtype), indicators))
        if self.cox_branch is not None:
            scores = self.cox_branch.scores(patches, mask, genes, covariates, slides_present, genes_present)
            logits = self.cox_branch(logits, scores)
        hazard, survival = hazard_and_survival(logits, self.config.head)
        probed = reading.vector if self.config.subtype_task else reading.vector.detach()
        return Prediction(
            hazard_logits=logits,
            hazard=hazard,
            survival=survival,
            risk=-survival.sum(1),
            subtype_logits=self.subtype_head(self.drop(probed)).to(dtype),
            instance_logits=logits.new_zeros(len(logits), len(self.config.classes)),
            **self._critical(reading, real, slides_present),
            gene_groups=None,
            norms=None,
            couplings=None,
        )

    @torch.no_grad()
    def init_hazard(self, hazard: Tensor) -> None:
        """Initialise the predicted hazards near these (B,), as MCTI does."""
        self.survival_head.bias.copy_(hazard_logits_of(hazard, self.config.head))

    def _critical(self, reading: Reading, mask: Tensor, slides_present: Tensor | None) -> dict[str, Tensor]:
        """The patches with the largest attention as the critical patches; none without attention."""
        batch, kept, config = len(mask), self.config.critical, self.config
        if reading.attention is None:
            weights, present = reading.vector.new_zeros(batch, kept), mask.new_zeros(batch, kept)
            index = torch.zeros(batch, kept, dtype=torch.long, device=mask.device)
        else:
            scores = reading.attention.detach().masked_fill(~mask, -1.0)
            index = scores.argsort(dim=1, descending=True, stable=True)[:, :kept]
            present = mask.gather(1, index)
            if slides_present is not None:
                present = present & slides_present[:, None]
            index, present = (F.pad(part, (0, kept - index.shape[1])) for part in (index, present))
            weights = reading.attention.detach().gather(1, index) * present
        plan = reading.vector.new_zeros(batch, kept, config.tokens)
        if reading.plan is not None:
            chosen = reading.plan.detach().gather(1, index[..., None].expand(-1, -1, config.tokens))
            plan = chosen.to(plan.dtype) * present[..., None]
        return {
            "critical": torch.where(present, index, -1),
            "critical_scores": weights,
            "critical_logits": weights.new_zeros(batch, kept, len(config.classes)),
            "critical_mass": weights * mask.sum(1, keepdim=True),
            "gene_plan": plan,
        }


class AbsentInputs(nn.Module):
    """A learned patch and a learned gene vector that replace absent slides or genes."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch = nn.Parameter(torch.randn(config.features) * config.features**-0.5)
        self.genes = nn.Parameter(torch.zeros(len(config.genes)))

    def forward(
        self,
        patches: Tensor,
        mask: Tensor,
        genes: Tensor,
        slides_present: Tensor | None,
        genes_present: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Patches, mask and genes with absent modalities replaced by learned values; each keeps its shape."""
        if genes_present is not None:
            genes = torch.where(genes_present[:, None], genes, self.genes)
        if slides_present is not None:
            first = torch.zeros_like(mask)
            first[:, 0] = True
            mask = torch.where(slides_present[:, None], mask, first)
            patches = torch.where(slides_present[:, None, None], patches, self.patch)
        return patches, mask, genes
