"""The complete MCTI network: survival, subtype and their explanations from bags and genes (docs/model.md)."""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mcti.errors import DataError
from mcti.model.axes import Axes, config_after_axes
from mcti.model.checks import check_inputs
from mcti.model.clinical import ClinicalToken, check_covariates
from mcti.model.cox_branch import CoxBranch
from mcti.model.genomics import gene_branch
from mcti.model.guidance import Coupling
from mcti.model.hazards import hazard_and_survival, hazard_logits_of
from mcti.model.heads import Head
from mcti.model.pathology import PathologyBranch, PathologyOutput
from mcti.model.presets import ModelConfig
from mcti.model.transport import Plan, unbalanced
from mcti.model.transport.null_plans import shuffled, uniform
from mcti.model.unet import CLS, SURV, TaskUNet, mean_token

__all__ = ["MCTI", "Prediction", "check_inputs"]


@dataclass
class Prediction:
    """Output for a batch of b patients (B bins, C classes, K critical patches, T tokens, G genes).

    hazard_logits    (b, B)     input of the loss; defined in mcti/model/hazards.py
    hazard           (b, B)     probability of the event in the bin, given survival to its start
    survival         (b, B)     probability that the event is after the bin
    risk             (b,)       -sum of survival: higher = earlier event, no unit
    subtype_logits   (b, C)
    instance_logits  (b, C)     largest over the bag's patches, for L_inst
    critical         (b, K)     rows of the critical patches, highest score first; -1 where the bag has fewer
    critical_scores  (b, K)     largest instance logit of each; 0 where absent
    critical_logits  (b, K, C)  instance logit of each class; 0 where absent
    critical_mass    (b, K)     mass that each received, in patches; sums to the size of the bag
    gene_plan        (b, K, T)  coupling of patch tokens and gene tokens

    With `details`, else None:
    gene_groups      (b, T, G)  weight of each gene in each token; None for the dense gene branch
    norms            layer -> (S, b) mean norm of the present tokens
    couplings        every coupling of the guided attention, in order
    """

    hazard_logits: Tensor
    hazard: Tensor
    survival: Tensor
    risk: Tensor
    subtype_logits: Tensor
    instance_logits: Tensor
    critical: Tensor
    critical_scores: Tensor
    critical_logits: Tensor
    critical_mass: Tensor
    gene_plan: Tensor
    gene_groups: Tensor | None
    norms: dict[str, Tensor] | None
    couplings: list[Coupling] | None


@dataclass
class Tokens:
    """The joint tokens: values (b, K+2T, D), mask (b, K+2T) or None where all are present, gene plan (b, K, T).

    With covariates there is one more token, the last one.
    """

    values: Tensor
    mask: Tensor | None
    gene_plan: Tensor


class MCTI(nn.Module):
    """Multimodal cross-task interaction (Jiang et al., MICCAI 2024), batched over patients and task streams."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config, after_axes = config, config_after_axes(config)
        self.axes = Axes(config)
        self.pathology = PathologyBranch(after_axes)
        self.genomics = gene_branch(after_axes)
        self.task_tokens = nn.Parameter(torch.randn(3, config.task_tokens, config.width) * config.width**-0.5)
        self.unet = TaskUNet(config)
        self.subtype_head = Head(after_axes, len(config.classes))
        self.survival_head = Head(after_axes, config.bins)
        self.absent = AbsentTokens(config) if config.missing else None
        self.clinical = ClinicalToken(config) if config.covariates else None
        self.cox_branch = CoxBranch(config) if config.cox_branch else None

    def forward(
        self,
        patches: Tensor,
        mask: Tensor,
        genes: Tensor,
        *,
        slides_present: Tensor | None = None,
        genes_present: Tensor | None = None,
        covariates: Tensor | None = None,
        details: bool = False,
    ) -> Prediction:
        """Predict a batch.

        patches (b, N, D_in), padded rows finite, mask (b, N) True = real patch, genes (b, G) standardised on
        the training fold; slides_present, genes_present (b,) bool, only for a configuration with `missing`; covariates
        (b, V) standardised on the training fold, NaN where missing, for a configuration with V covariates; details:
        also the outputs that explain the network, which cost time.

        Raises DataError, before any arithmetic, as `check_inputs`, and for covariates or absent modalities that
                         the model does not support
        """
        check_inputs(self.config, patches, mask, genes, slides_present=slides_present, genes_present=genes_present)
        check_covariates(self.config, covariates, len(patches))
        weight_dtype = self.task_tokens.dtype
        rows, values = self.axes(patches, to_compute_dtype(genes, weight_dtype))
        mined = self.pathology(rows, mask)
        gene_tokens, groups = self.genomics(values)
        if self.absent is not None:
            mined, gene_tokens = self.absent(mined, gene_tokens, slides_present, genes_present)
        else:
            require_all_modalities(slides_present, genes_present)
        clinical, read = None, None
        if self.clinical is not None and covariates is not None:
            clinical, read = self.clinical(to_compute_dtype(covariates, weight_dtype))
        tokens = self.join(mined, gene_tokens, clinical)
        trace: list[Coupling] | None = [] if details else None
        streams, norms = self.unet(*self.streams(tokens), trace)
        dtype = torch.promote_types(values.dtype, torch.float32)  # logits are never half
        means = mean_token(streams, self._mask(tokens))
        logits = self.survival_head(means[SURV], mined, gene_tokens, read).to(dtype)
        if self.cox_branch is not None:
            scores = self.cox_branch.scores(patches, mask, genes, covariates, slides_present, genes_present)
            logits = self.cox_branch(logits, scores)
        hazard, survival = hazard_and_survival(logits, self.config.head)
        return Prediction(
            hazard_logits=logits,
            hazard=hazard,
            survival=survival,
            risk=-survival.sum(1),
            subtype_logits=self._subtype(means[CLS], mined, gene_tokens, read).to(dtype),
            instance_logits=self._for_subtype_task(mined.instance_logits).to(dtype),
            critical=mined.critical,
            critical_scores=mined.scores,
            critical_logits=self._for_subtype_task(mined.critical_logits),
            critical_mass=mined.mass,
            gene_plan=tokens.gene_plan,
            gene_groups=self.axes.by_gene(groups) if details and groups is not None else None,
            norms=norms,
            couplings=trace,
        )

    def _subtype(self, mean: Tensor, mined: PathologyOutput, gene_tokens: Tensor, read: Tensor | None) -> Tensor:
        selected = dataclasses.replace(mined, focus=self._for_subtype_task(mined.focus))
        out: Tensor = self.subtype_head(
            self._for_subtype_task(mean), selected, self._for_subtype_task(gene_tokens), read
        )
        return out

    def _for_subtype_task(self, values: Tensor) -> Tensor:
        """Values with the gradient of the subtype losses; detached where the subtype task is switched off."""
        return values if self.config.subtype_task else values.detach()

    @torch.no_grad()
    def init_hazard(self, hazard: Tensor) -> None:
        """Initialise the predicted hazards near these (B,), from `mcti.dataset.time_bins.base_hazard`."""
        self.survival_head.out.bias.copy_(hazard_logits_of(hazard, self.config.head))

    def join(self, mined: PathologyOutput, gene_tokens: Tensor, clinical: Tensor | None = None) -> Tokens:
        """Couple patch and gene tokens; the joint sequence [P; plan'P; genes; clinical] (docs/model.md, 3)."""
        plan = self.gene_plan(mined, gene_tokens)
        carried = plan.transposed().carry(mined.tokens)  # (b, T, D)
        values = self.sequence(mined.tokens, carried, gene_tokens, clinical)
        return Tokens(values, self.joint_mask(mined.present, clinical), plan.coupling)

    @torch.no_grad()
    def gene_plan(self, mined: PathologyOutput, gene_tokens: Tensor) -> Plan:
        """The plan between patch tokens (b, K, D) and gene tokens (b, T, D), or its control; a constant."""
        config, present = self.config, None if bool(mined.present.all()) else mined.present
        if config.plan == "uniform":
            return uniform(mined.present, gene_tokens.new_ones(gene_tokens.shape[:2], dtype=torch.bool))
        plan: Plan = unbalanced(
            gene_cost(mined.tokens, gene_tokens, present),
            entropy=config.gene_entropy,
            marginal=config.gene_marginal,
            max_iterations=config.iterations,
            tolerance=config.tolerance,
            measure=config.gene_measure,
            mask_rows=present,
        )
        return shuffled(plan, mined.present) if config.plan == "shuffled" else plan

    def sequence(self, tokens: Tensor, carried: Tensor, gene_tokens: Tensor, clinical: Tensor | None) -> Tensor:
        """The joint tokens (b, K+2T, D), with covariates (b, K+2T+1, D), in the dtype of the patch tokens."""
        parts = [tokens, carried, gene_tokens] + ([] if clinical is None else [clinical])
        return torch.cat([part.to(tokens.dtype) for part in parts], 1)

    def joint_mask(self, present: Tensor, clinical: Tensor | None) -> Tensor | None:
        """Which joint tokens are present, (b, K+2T), with covariates (b, K+2T+1); None where all are."""
        if bool(present.all()):
            return None
        return F.pad(present, (0, 2 * self.config.tokens + (clinical is not None)), value=True)

    def streams(self, tokens: Tokens) -> tuple[Tensor, Tensor, Tensor | None]:
        """x (1, b, n, D), streams (2, b, n, D), mask (b, n): the joint tokens, each stream with its task tokens."""
        batch = len(tokens.values)
        learned = self.learned_tokens(batch)
        shared = tokens.values[None].expand(3, -1, -1, -1)
        stacked = torch.cat((shared, learned.to(shared.dtype)), 2)
        return stacked[2:], stacked[:2], self._mask(tokens)

    def learned_tokens(self, batch: int) -> Tensor:
        """The task tokens of cls, surv and mix for each patient, (3, b, R, D)."""
        return self.task_tokens[:, None].expand(-1, batch, -1, -1)

    def _mask(self, tokens: Tokens) -> Tensor | None:
        return None if tokens.mask is None else F.pad(tokens.mask, (0, self.config.task_tokens), value=True)


class AbsentTokens(nn.Module):
    """Learned tokens that replace absent slides or genes."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.slides = nn.Parameter(torch.randn(config.width) * config.width**-0.5)
        self.genes = nn.Parameter(torch.randn(config.tokens, config.width) * config.width**-0.5)

    def forward(
        self, mined: PathologyOutput, gene_tokens: Tensor, slides_present: Tensor | None, genes_present: Tensor | None
    ) -> tuple[PathologyOutput, Tensor]:
        """gene_tokens (b, T, D), flags (b,): absent slides become one patch token, absent genes T gene tokens."""
        slides, genes = self.learned(len(gene_tokens))
        if genes_present is not None:
            gene_tokens = torch.where(genes_present[:, None, None], gene_tokens, genes.to(gene_tokens.dtype))
        if slides_present is None:
            return mined, gene_tokens
        present = slides_present[:, None]
        first = torch.zeros_like(mined.present)
        first[:, 0] = True
        replacement = first[..., None] * slides.to(mined.tokens.dtype)
        mined.tokens = torch.where(present[..., None], mined.tokens, replacement)
        mined.present = torch.where(present, mined.present, first)
        mined.critical = mined.critical.masked_fill(~present, -1)
        mined.scores, mined.mass = mined.scores.masked_fill(~present, 0), mined.mass.masked_fill(~present, 0)
        mined.critical_logits = mined.critical_logits.masked_fill(~present[..., None], 0)
        mined.average, mined.focus = mined.average.masked_fill(~present, 0), mined.focus.masked_fill(~present, 0)
        return mined, gene_tokens

    def learned(self, rows: int) -> tuple[Tensor, Tensor]:  # noqa: ARG002  (used in mcti/model/members.py)
        """The tokens of absent slides (D,) and genes (T, D), for all of the b `rows`."""
        return self.slides, self.genes


def gene_cost(tokens: Tensor, gene_tokens: Tensor, present: Tensor | None = None) -> Tensor:
    """Squared distances (b, K, T) between rows minus their own minimum, divided by the largest of the patient.

    Rows of absent patch tokens cost 0; never in half precision. If all distances are zero, all costs are zero.
    """
    with torch.autocast(tokens.device.type, enabled=False):
        dtype = torch.promote_types(tokens.dtype, torch.float32)
        x, y = (rows.to(dtype) - rows.to(dtype).amin(-1, keepdim=True) for rows in (tokens, gene_tokens))
        cost = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()
        if present is not None:
            cost = cost * present[..., None]
        largest = cost.amax((1, 2), keepdim=True)
        return cost / torch.where(largest > 0, largest, 1.0)


def to_compute_dtype(values: Tensor, weight_dtype: torch.dtype) -> Tensor:
    """Inputs of any shape in the dtype of the weights, or in float32 where the weights have half precision."""
    return values.to(torch.promote_types(weight_dtype, torch.float32))


def require_all_modalities(slides_present: Tensor | None, genes_present: Tensor | None) -> None:
    """Check the flags (b,): without learned tokens the zeros of an absent modality would be used as data.

    Raises DataError when a patient lacks a modality
    """
    for name, flags in (("slides", slides_present), ("genes", genes_present)):
        if flags is not None and not bool(flags.all()):
            row = int((~flags).nonzero()[0])
            raise DataError(
                f"the patient has no {name}, and this model has no tokens for absent ones",
                f"batch, patient in row {row}",
                "train with architecture.missing: true, or exclude the patient",
            )
