"""Every width, depth and switch of the network, by preset: `paper`, `compact` (the default), `tiny` (tests), and the
peers and ablations of mcti/model/variants.py."""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mcti.errors import DataError, UsageError, did_you_mean
from mcti.model.hazards import HEADS
from mcti.model.transport import SOLVERS
from mcti.model.transport.null_plans import FORMS
from mcti.model.variants import ABLATIONS, COMPARATORS, NETWORKS

MODALITIES = ("slides", "genes")
GIVEN = ("preset", "features", "genes", "classes", "bins", "cox_branch")
"""Fields that data and training decide; all others are a preset's."""


@dataclass(frozen=True)
class ModelConfig:
    """The shape of one network and what its inputs and outputs mean; written beside the weights as JSON.

    Symbols of docs/model.md: D_in = features, D = width, K = critical, T = tokens, R = task_tokens, B = bins.
    """

    preset: str
    features: int  # D_in, width of a patch feature
    genes: tuple[str, ...]  # names in the order of the expression vector
    classes: tuple[str, ...]  # subtypes in the order of the logits
    bins: int  # survival time bins
    width: int  # D of tokens and streams
    query: int  # width of the query net
    critical: int  # K, most critical patches of a patient
    tokens: int  # T, gene tokens
    task_tokens: int  # R, learned tokens of each stream
    gene_branch: str  # "dense": two hidden layers, reshaped; "groups": learned group queries over gene tokens
    gene_width: int  # hidden width of "dense", embedding width of "groups"
    encoder_depths: tuple[int, ...]  # guided blocks of each encoder stage
    bottleneck_depth: int  # guided blocks of the bottleneck
    decoder_depths: tuple[int, ...]  # guided blocks of each decoder stage; as many as encoder stages
    attention_depth: int  # self-attention layers of a stage
    heads: int  # heads of the self-attention
    solver: str  # coupling of the guided attention
    entropy: float  # of that coupling, costs being standardised; `assignment` takes none
    iterations: int  # at most, of every iterative solver
    tolerance: float  # of every iterative solver
    gene_entropy: float  # of the patch-gene coupling, costs being divided by their largest
    gene_marginal: float  # KL weight of its marginals
    gene_measure: str  # its entropy against the all-ones matrix ("entropy") or the marginals ("kl")
    block: int = 8192  # rows computed at a time, over all bags of a batch
    dropout: float = 0.0  # of every residual branch and before the heads
    gene_dropout: float = 0.0  # of the gene branch
    transpose_plan: bool = False  # hand each value token its matched task token: transposed plan
    soft_instance_gate: bool = (
        False  # soft gate on the critical rows, so that survival trains the instance classifier too
    )
    inverse_temperature: float = 0.0  # start of the learned factor in the mass softmax; 0: the factor is 1 and fixed
    normalise_mass: bool = False  # divide the mass sums by patches a token: a bag's size is then no signal
    zero_init_residual: bool = False  # residual branches start at zero
    linear_skip: bool = False  # linear path from mean patch feature and gene tokens to the logits
    bilinear_rank: int = (
        0  # of that path: products of a direction of the mean critical patch and one of the gene tokens
    )
    plan_gradient: bool = False  # gradients pass the entropic coupling
    missing: bool = False  # learned tokens stand in for absent slides or genes
    critical_share: float = 1.0  # keep the fewest critical patches that hold this share of the softmax of scores
    rank: int = 16  # of the plans of solver `low_rank`
    head: str = "discrete"  # a hazard for each bin, or "continuous": a constant hazard rate within each bin
    covariates: tuple[str, ...] = ()  # clinical columns that become a token, e.g. age and is_female
    modalities: tuple[str, ...] = ("slides", "genes")  # what the model reads; of a patient's others it knows nothing
    gene_axes: int = 0  # principal axes of the genes that the network reads in their place, whitened; 0: the genes
    feature_axes: int = 0  # the same of the patch features
    cox_branch: bool = False  # a Cox model stands beside the network: `train.cox_weight`
    hard_negatives: int = 0  # patches of other subtypes, for each class and step, that the instance classifier unlearns
    network: str = "mcti"  # or a peer (mcti/model/comparators), which takes of these fields what it knows
    subtype_task: bool = True  # False: the subtype head reads what the network carries, and shapes nothing of it
    plan: str = "solved"  # or a control (mcti/model/transport/null_plans.py): "uniform", "shuffled"
    guidance: bool = True  # False: the guided attention takes its values as they are, without task tokens

    def __post_init__(self) -> None:
        """Refuse a shape that cannot be built."""
        for name, words in (
            ("solver", SOLVERS),
            ("gene_branch", ("dense", "groups")),
            ("gene_measure", ("entropy", "kl")),
            ("head", HEADS),
            ("network", NETWORKS),
            ("plan", FORMS),
        ):
            _require(getattr(self, name) in words, name, getattr(self, name), did_you_mean(getattr(self, name), words))
        for name in _POSITIVE:
            _require(getattr(self, name) >= 1, name, getattr(self, name), "give at least 1")
        for name in ("dropout", "gene_dropout"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "give a share below 1")
        for name in ("entropy", "tolerance", "gene_entropy", "gene_marginal"):
            _require(0 < getattr(self, name) < math.inf, name, getattr(self, name), "give a positive number")
        self._check_shape()

    def _check_shape(self) -> None:
        depths = (*self.encoder_depths, *self.decoder_depths)
        _require(self.width % self.heads == 0, "heads", self.heads, f"give a divisor of width {self.width}")
        _require(
            0 < len(self.encoder_depths) == len(self.decoder_depths) and min(depths) >= 1,
            "decoder_depths",
            self.decoder_depths,
            f"give one depth of at least 1 for each of the {len(self.encoder_depths)} encoder stages",
        )
        _require(0 < self.critical_share <= 1, "critical_share", self.critical_share, "give a share in (0, 1]")
        smooth = self.solver in ("sinkhorn", "unbalanced")
        _require(not self.plan_gradient or smooth, "plan_gradient", True, f"the plan of {self.solver} has none")
        firm = self.plan != "shuffled" or self.solver != "low_rank"
        _require(firm, "plan", self.plan, "shuffle the plan of a solver that writes it out, or take uniform")
        for name in ("gene_axes", "feature_axes"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "give 0 or a number of axes")
        _require(self.bilinear_rank >= 0, "bilinear_rank", self.bilinear_rank, "give 0 or a number of products")
        _require(self.hard_negatives >= 0, "hard_negatives", self.hard_negatives, "give 0 or a number of patches")
        _require(
            self.inverse_temperature >= 0,
            "inverse_temperature",
            self.inverse_temperature,
            "give 0 or a positive factor",
        )
        for word in self.modalities:
            _require(word in MODALITIES, "modalities", word, did_you_mean(word, MODALITIES))
        for name in ("genes", "classes", "covariates", "modalities"):
            words = getattr(self, name)
            twice = sorted({word for word in words if words.count(word) > 1}) if len(set(words)) < len(words) else []
            _require(
                (bool(words) or name == "covariates") and not twice, name, twice[:3] or "empty", "give each name once"
            )

    @property
    def length(self) -> int:
        """Tokens of the joint sequence: n = K + 2T + R, and one of the covariates where there are any."""
        return self.critical + 2 * self.tokens + self.task_tokens + bool(self.covariates)

    def to_json(self) -> str:
        """The configuration as JSON with sorted keys; `from_json` reads it back."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "model.json") -> "ModelConfig":
        """The configuration that `to_json` wrote.

        Raises DataError on text that is no JSON object, on an unknown or missing key and on a value of another type.
        """
        try:
            tree = json.loads(text)
        except ValueError as error:
            raise DataError(f"not a JSON document ({error})", where, "take model.json as training wrote it") from error
        if not isinstance(tree, dict):
            raise DataError(f"a {type(tree).__name__}, not an object", where, "take model.json as training wrote it")
        try:
            return cls(**_typed(tree))
        except (TypeError, UsageError) as error:
            raise DataError(str(error), where, "take model.json as training wrote it") from error


_POSITIVE = (
    *("features", "bins", "width", "query", "critical", "tokens", "task_tokens", "gene_width"),
    *("attention_depth", "bottleneck_depth", "heads", "iterations", "block", "rank"),
)


def _require(condition: bool, name: str, value: object, hint: str) -> None:
    if not condition:
        raise UsageError(f"{name} is {value!r}", "the model's configuration", hint)


def _typed(tree: dict[str, Any]) -> dict[str, Any]:
    """The JSON values as the fields' types; TypeError names the first key that does not fit."""
    fields = {field.name: field for field in dataclasses.fields(ModelConfig)}
    for key in tree:
        if key not in fields:
            raise TypeError(f"unknown key {key!r}: {did_you_mean(key, fields)}")
    hints = typing.get_type_hints(ModelConfig)
    for name, field in fields.items():
        if name not in tree and field.default is dataclasses.MISSING:
            raise TypeError(f"key {name!r} is missing")
    return {name: _convert(hints[name], value, name) for name, value in tree.items()}


def _convert(kind: Any, value: Any, name: str) -> Any:
    """`value` as a field of this kind: lists become tuples, whole numbers may stand for reals."""
    if isinstance(kind, types.GenericAlias):
        inner = typing.get_args(kind)[0]
        if not isinstance(value, list | tuple):
            raise TypeError(f"{name} is {value!r}, not a list")
        return tuple(_convert(inner, item, name) for item in value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"{name} is {value!r}, not {kind.__name__}")
    return value


_PAPER: dict[str, Any] = {
    "width": 1024,
    "query": 128,
    "critical": 256,
    "tokens": 8,
    "task_tokens": 240,
    "gene_branch": "dense",
    "gene_width": 8192,
    "encoder_depths": (2, 4),
    "bottleneck_depth": 2,
    "decoder_depths": (2, 4),
    "attention_depth": 2,
    "heads": 1,
    "solver": "assignment",
    "entropy": 0.05,
    "iterations": 1000,
    "tolerance": 1e-6,
    "gene_entropy": 0.1,
    "gene_marginal": 0.5,
    "gene_measure": "entropy",
    "gene_dropout": 0.25,
    "block": 4096,
}
_COMPACT = _PAPER | {
    "width": 32,
    "query": 32,
    "critical": 16,
    "task_tokens": 8,
    "gene_branch": "groups",
    "gene_width": 32,
    "encoder_depths": (1,),
    "bottleneck_depth": 1,
    "decoder_depths": (1,),
    "attention_depth": 1,
    "solver": "assignment",
    "iterations": 50,
    "tolerance": 1e-3,
    "dropout": 0.1,
    "gene_dropout": 0.25,
    "transpose_plan": True,
    "soft_instance_gate": True,
    "inverse_temperature": 4.0,
    "normalise_mass": True,
    "zero_init_residual": True,
    "linear_skip": True,
    "bilinear_rank": 16,
    "gene_axes": 30,
    "feature_axes": 32,
}
_TINY = _COMPACT | {
    "width": 16,
    "query": 8,
    "critical": 6,
    "tokens": 2,
    "task_tokens": 4,
    "gene_width": 4,
    "bilinear_rank": 2,
    "block": 64,
    "dropout": 0.0,
    "gene_dropout": 0.0,
    "gene_axes": 0,
    "feature_axes": 0,
}
PRESETS: dict[str, dict[str, Any]] = {
    "paper": _PAPER,
    "compact": _COMPACT,
    "tiny": _TINY,
    **{name: _COMPACT | changes for name, changes in (COMPARATORS | ABLATIONS).items()},
}


def preset(
    name: str, *, features: int, genes: Sequence[str], classes: Sequence[str], bins: int, **overrides: Any
) -> ModelConfig:
    """The configuration of a preset for these inputs and outputs, with single fields changed by name.

    features: width of a patch feature; genes, classes: names in their order; bins: survival time bins.
    Raises UsageError on an unknown preset, an unknown field or a value that does not fit.
    """
    if name not in PRESETS:
        raise UsageError(f"there is no preset {name!r}", "train.preset", did_you_mean(name, PRESETS))
    open_fields = [field.name for field in dataclasses.fields(ModelConfig)]
    open_fields = [field for field in open_fields if field not in GIVEN]
    for key in overrides:
        if key not in open_fields:
            raise UsageError(f"unknown field {key!r}", "train.architecture", did_you_mean(key, open_fields))
    hints = typing.get_type_hints(ModelConfig)
    try:
        changed = {key: _convert(hints[key], value, key) for key, value in overrides.items()}
    except TypeError as error:
        raise UsageError(str(error), "train.architecture", "see docs/model.md, the table of presets") from error
    inputs = {"features": features, "genes": tuple(genes), "classes": tuple(classes), "bins": bins}
    fields: dict[str, Any] = {"preset": name} | inputs | PRESETS[name] | changed
    return ModelConfig(**fields)
