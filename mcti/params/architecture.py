"""The fields of the network architecture with type, bounds and meaning, for params.yaml and model.json.

`Architecture` is the complete form; `mcti.model.presets.ModelConfig` adds the inputs and outputs of the data.
`ArchitectureParams` is the section `train.architecture`: the same fields, each optional. Symbols as in docs/model.md:
D_in = width of a patch feature, D = width, K = critical, T = tokens, R = task_tokens, B = bins.
"""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import ConfigDict, Field, create_model, model_serializer, model_validator
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

from mcti.params.base import Params, checked_type, refuse

Solver = Literal["assignment", "sinkhorn", "unbalanced", "low_rank"]
GeneBranch = Literal["dense", "groups"]
EntropyMeasure = Literal["entropy", "kl"]
HeadForm = Literal["discrete", "continuous"]
PlanForm = Literal["solved", "uniform", "shuffled"]
Modality = Literal["slides", "genes"]
_Depths = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(strict=False, min_length=1)]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(strict=True, allow_inf_nan=False))
class Architecture:
    """The shape of one network."""

    width: int = Field(ge=1, description="D, width of tokens and streams")
    query: int = Field(ge=1, description="width of the query network, which matches patches with critical patches")
    critical: int = Field(ge=1, description="K, number of most critical patches of a patient")
    tokens: int = Field(ge=1, description="T, number of gene tokens")
    task_tokens: int = Field(ge=1, description="R, number of learned tokens of each stream")
    gene_branch: GeneBranch = Field(
        description="dense: two hidden layers, reshaped to tokens; groups: learned group queries over the genes"
    )
    gene_width: int = Field(ge=1, description="hidden width of `dense`, embedding width of `groups`")
    encoder_depths: _Depths = Field(description="guided blocks of each encoder stage")
    bottleneck_depth: int = Field(ge=1, description="guided blocks of the bottleneck")
    decoder_depths: _Depths = Field(description="guided blocks of each decoder stage; as many stages as the encoder")
    attention_depth: int = Field(ge=1, description="self-attention layers of a stage")
    heads: int = Field(ge=1, description="heads of the self-attention; a divisor of `width`")
    solver: Solver = Field(description="solver of the couplings in the guided attention (docs/model.md, section 4)")
    entropy: float = Field(gt=0, description="weight of the entropy in these couplings, for standardised costs")
    iterations: int = Field(ge=1, description="largest number of iterations of every iterative solver")
    tolerance: float = Field(gt=0, description="error at which every iterative solver stops")
    gene_entropy: float = Field(
        gt=0, description="weight of the entropy in the patch-gene coupling, for costs divided by their largest"
    )
    gene_marginal: float = Field(gt=0, description="KL weight of the marginals of the patch-gene coupling")
    gene_measure: EntropyMeasure = Field(
        description="entropy in the patch-gene coupling, relative to the all-ones matrix (entropy) or the product of "
        "the marginals (kl)"
    )
    block: int = Field(
        8192,
        ge=1,
        description="patches processed at once, over all bags of a batch; limits the memory, not the result",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout rate of every residual branch and before the heads")
    gene_dropout: float = Field(0.0, ge=0, lt=1, description="dropout rate of the gene branch")
    transpose_plan: bool = Field(
        False, description="each value token receives its matched task token: the transposed plan"
    )
    soft_instance_gate: bool = Field(
        False, description="soft gate on the critical patches, so that survival also trains the instance classifier"
    )
    inverse_temperature: float = Field(
        0.0, ge=0, description="initial value of the learned factor in the mass softmax; 0: a fixed factor of 1"
    )
    normalise_mass: bool = Field(
        False, description="divide the mass sums by patches per token, so that the size of a bag has no influence"
    )
    zero_init_residual: bool = Field(False, description="residual branches are initialised to zero")
    linear_skip: bool = Field(
        False, description="linear path from the mean patch feature and the gene tokens to the logits"
    )
    bilinear_rank: int = Field(
        0,
        ge=0,
        description="products of a direction of the mean critical patch and one of the gene tokens, in that path",
    )
    plan_gradient: bool = Field(
        False,
        description="backpropagate through the couplings of the guided attention; solvers sinkhorn and unbalanced only",
    )
    missing: bool = Field(False, description="learned tokens replace absent slides or genes")
    critical_share: float = Field(
        1.0, gt=0, le=1, description="keep the fewest critical patches with this share of the softmax of the scores"
    )
    rank: int = Field(16, ge=1, description="rank of the plans of solver low_rank")
    head: HeadForm = Field(
        "discrete", description="a hazard for each bin, or continuous: a constant hazard rate within each bin"
    )
    covariates: tuple[str, ...] = Field(
        (), strict=False, description="clinical columns, numeric or categorical, that become a token, e.g. [age, stage]"
    )
    modalities: tuple[Modality, ...] = Field(
        get_args(Modality), strict=False, min_length=1, description="modalities that the network reads"
    )
    gene_axes: int = Field(
        0, ge=0, description="number of whitened principal axes that replace the genes; 0: the genes themselves"
    )
    feature_axes: int = Field(
        0,
        ge=0,
        description="number of whitened principal axes that replace the patch features; 0: the features themselves",
    )
    hard_negatives: int = Field(
        0, ge=0, description="highest-scoring patches of other subtypes per class and step in the instance loss"
    )
    subtype_task: bool = Field(True, description="false: the subtype loss trains the subtype head only")
    plan: PlanForm = Field("solved", description="solved, or a control plan: uniform or shuffled")
    guidance: bool = Field(True, description="false: the guided attention uses its values without task tokens")

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        if self.width % self.heads:
            refuse("heads", self.heads, f"set a divisor of width {self.width}")
        if len(self.encoder_depths) != len(self.decoder_depths):
            hint = f"set one depth for each of the {len(self.encoder_depths)} encoder stages"
            refuse("decoder_depths", self.decoder_depths, hint)
        if self.plan_gradient and self.solver not in ("sinkhorn", "unbalanced"):
            refuse("plan_gradient", True, f"the plan of solver {self.solver} has no gradient")
        if self.plan == "shuffled" and self.solver == "low_rank":
            refuse("plan", self.plan, "shuffle the plan of another solver, or set uniform")
        for name in ("covariates", "modalities"):
            names = getattr(self, name)
            if len(set(names)) < len(names):
                refuse(name, names, "list each name once")
        return self


FIELDS: dict[str, FieldInfo] = Architecture.__pydantic_fields__  # type: ignore[attr-defined]
"""Name -> type, bounds, default and description of each field."""
FIELDS_FROM_DATA = ("missing", "modalities")
"""Fields that training takes from the modalities of its patients where params.yaml does not set them."""

_OPTIONAL = {
    name: (checked_type(field) | None, Field(None, description=field.description)) for name, field in FIELDS.items()
}


class ArchitectureParams(create_model("_ArchitectureFields", __base__=Params, **_OPTIONAL)):  # type: ignore[misc]
    """Fields of the preset to change; a missing one has the value of the preset (docs/model.md, table of presets)."""

    def changes(self) -> dict[str, Any]:
        """The fields that are set: {name: value}."""
        return {name: value for name in FIELDS if (value := getattr(self, name)) is not None}

    @model_serializer
    def _only_changes(self) -> dict[str, Any]:
        return self.changes()
