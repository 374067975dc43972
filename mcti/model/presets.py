"""The complete configuration of one network: architecture, inputs and outputs; stored in model.json."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from mcti.errors import DataError, UsageError, did_you_mean
from mcti.model.categories import Category, ClinicalInput, input_columns
from mcti.params import check
from mcti.params.architecture import Architecture, ArchitectureParams
from mcti.params.base import refuse
from mcti.params.presets import NETWORKS, PRESETS

DATA_FIELDS = ("preset", "network", "features", "genes", "classes", "bins", "cox_branch", "categories")
"""Fields that the preset's name, the data and training decide; all others are fields of `train.architecture`."""
_HINT = "use the model.json that training wrote"

_Names = Annotated[tuple[str, ...], Field(strict=False, min_length=1)]


@dataclass(frozen=True, kw_only=True, config=ConfigDict(strict=True, allow_inf_nan=False))
class ModelConfig(Architecture):
    """The shape of one network and the meaning of its inputs and outputs; written as JSON with the weights.

    preset      name of the preset that the architecture started from
    network     "mcti" or the name of a comparator (mcti/model/comparators)
    features    D_in, width of a patch feature
    genes       names in the order of the expression vector
    classes     subtypes in the order of the logits
    bins        B, number of survival time bins
    cox_branch  a ridge Cox model contributes to the hazard logits, with weight `train.cox_weight`
    categories  levels of the categorical ones among `covariates`, learned from the training part
    """

    preset: str
    network: Literal["mcti", "snn", "mean_pool", "abmil", "transmil", "late_fusion", "mcat", "motcat"] = "mcti"
    features: int = Field(ge=1)
    genes: _Names
    classes: _Names
    bins: int = Field(ge=1)
    cox_branch: bool = False
    categories: tuple[Category, ...] = Field((), strict=False)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        for name in ("genes", "classes"):
            names = getattr(self, name)
            if len(set(names)) < len(names):
                twice = sorted({word for word in names if names.count(word) > 1})
                refuse(name, twice[:3], "list each name once")
        foreign = [one.name for one in self.categories if one.name not in self.covariates]
        if foreign:
            refuse("categories", foreign, "list each of them in covariates")
        return self

    @property
    def clinical_inputs(self) -> tuple[ClinicalInput, ...]:
        """The covariates in their order, a categorical one with its levels."""
        levels = {one.name: one for one in self.categories}
        return tuple(levels.get(name, name) for name in self.covariates)

    @property
    def clinical_columns(self) -> tuple[str, ...]:
        """Names of the V standardised columns of the covariates: several for a categorical one."""
        return input_columns(self.clinical_inputs)

    @property
    def clinical_width(self) -> int:
        """The columns of the covariates and one indicator of a missing value for each covariate."""
        return len(self.clinical_columns) + len(self.covariates)

    @property
    def length(self) -> int:
        """Number of tokens of the joint sequence: n = K + 2T + R, and one more with covariates."""
        return self.critical + 2 * self.tokens + self.task_tokens + bool(self.covariates)

    def to_json(self) -> str:
        """The configuration as JSON with sorted keys; `from_json` reads it back."""
        tree = dataclasses.asdict(self)
        if not self.categories:  # most models have none, and their model.json does not mention them
            del tree["categories"]
        return json.dumps(tree, indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "model.json") -> "ModelConfig":
        """The configuration that `to_json` wrote.

        Raises DataError when the text is not a JSON object, a key is unknown or missing, or a value does not fit
        """
        try:
            tree = json.loads(text)
        except ValueError as error:
            raise DataError(f"not a JSON document ({error})", where, _HINT) from error
        if not isinstance(tree, dict):
            raise DataError(f"a {type(tree).__name__}, not an object", where, _HINT)
        names = [field.name for field in dataclasses.fields(cls)]
        if unknown := [key for key in tree if key not in names]:
            raise DataError(f"unknown key {unknown[0]!r}", where, f"{did_you_mean(unknown[0], names)}; {_HINT}")
        try:
            return cls(**tree)
        except ValidationError as error:
            field, value, reason = _first(error)
            raise DataError(f"{field} is {value!r} ({reason})", where, _HINT) from error


def preset(
    name: str, *, features: int, genes: Sequence[str], classes: Sequence[str], bins: int, **overrides: Any
) -> ModelConfig:
    """The configuration of a preset for these inputs and outputs, with single fields changed by name.

    features: width of a patch feature; genes, classes: names in their order; bins: survival time bins.

    Raises UsageError when the preset or a field is unknown, or a value does not fit
    """
    if name not in PRESETS:
        raise UsageError(f"there is no preset {name!r}", "train.preset", did_you_mean(name, PRESETS))
    changes = check(ArchitectureParams, overrides, "train.architecture").changes()
    data = {"features": features, "genes": tuple(genes), "classes": tuple(classes), "bins": bins}
    try:
        return ModelConfig(preset=name, network=NETWORKS[name], **data, **(PRESETS[name] | changes))  # type: ignore[arg-type]
    except ValidationError as error:
        field, value, reason = _first(error)
        raise UsageError(f"{field} is {value!r}", "train.architecture", reason) from error


def _first(error: ValidationError) -> tuple[str, Any, str]:
    """Field, value and reason of the first error."""
    first = error.errors()[0]
    reason = first["msg"]
    return ".".join(str(part) for part in first["loc"]), first["input"], reason[0].lower() + reason[1:]
