"""Settings of the search for the settings of training, and the check of its search space."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from mcti.params.architecture import FIELDS, ArchitectureParams
from mcti.params.base import Params, checked_type, settings_class
from mcti.params.result_settings import RESULT_NEUTRAL, UNUSED_BY_SEARCH
from mcti.params.suggestions import suggestion
from mcti.params.training import TrainParams

Value = float | int | str
_MOST_WHOLE_NUMBERS = 2000
"""Whole numbers of a range that are checked one by one; of a longer range only the ends."""


class SearchParams(Params):
    """Search for training settings over the inner folds (Optuna)."""

    seed: int = Field(7, ge=0, description="seed of the sampler")
    trials: int = Field(8, ge=1, description="trials, including pruned ones; the first has the settings of train")
    parallel_trials: int = Field(
        2,
        ge=1,
        le=64,
        description="trials per generation, chosen before any of them is scored; more use more cores, "
        "and the sampler has fewer results",
    )
    wilcoxon_p_threshold: float = Field(
        0.3, ge=0, le=1, description="p-value below which a trial worse than the best is pruned (Wilcoxon test)"
    )
    timeout_minutes: float = Field(0, ge=0, description="minutes after which no new trial starts; 0: no limit")
    epochs: int = Field(6, ge=1, description="epochs of a trial")
    outer_fold: int = Field(
        0, ge=0, description="outer fold whose training part is searched; its test part is never read"
    )
    space: dict[str, list[float] | list[str] | list[int]] = Field(
        {"learning_rate": [3e-4, 1e-2], "weight_decay": [1e-4, 1e-1], "lambda_subtype": [0.05, 1.0]},
        description="setting of train, dotted (architecture.width) -> [low, high] (two numbers, log scale) or choices",
    )
    storage: str | None = Field(
        None,
        description="null: a SQLite file with the result; postgresql://…: one study for all running `mcti search`",
    )
    wait_minutes: float = Field(30, ge=0, description="PostgreSQL: minutes to wait for an unreachable server")
    warm_start: str | None = Field(
        None,
        description="a model (models:/NAME@champion or a folder) whose settings are the second trial; null: none",
    )
    experiment: str = Field(
        "mcti", min_length=1, description="MLflow experiment of the trials, where a server is configured"
    )
    nested: bool = Field(
        False,
        description="true: one search per outer fold inside its training part; false: one search on `outer_fold` for "
        "all folds, whose training part includes test patients of the others",
    )

    @field_validator("space", mode="before")
    @classmethod
    def _sections_as_dotted_names(cls, space: Any) -> Any:
        """`architecture: {width: [16, 32]}`, which `--set search.space.architecture.width=[16, 32]` writes too."""
        if space is None:  # `space:` without a key, as for any section
            return cls.model_fields["space"].default
        if not isinstance(space, dict):
            return space
        if not space:
            raise ValueError("search.space is empty: name at least one setting of train, or omit it for its default")
        dotted: dict[Any, Any] = {}
        for name, values in space.items():
            dotted |= (
                {f"{name}.{key}": value for key, value in values.items()}
                if isinstance(values, dict)
                else {name: values}
            )
        return {name: _checked_values(str(name), values) for name, values in dotted.items()}


def is_range(values: Sequence[Value]) -> bool:
    """Whether the values are [low, high], which are two numbers; all others are choices."""
    return len(values) == 2 and not any(isinstance(value, str) for value in values)


def fault(values: Sequence[Value]) -> str | None:
    """Why a trial cannot draw from the values, as `WHAT: HINT`; None where it can."""
    if len(values) < 2:
        return "fewer than two values: set [low, high], or list three or more choices"
    if len(set(values)) < len(values):
        return "a repeated value: list each value once"
    if is_range(values) and not 0 < float(values[0]) < float(values[1]):
        hint = "set 0 < low < high, since a range is searched on a log scale, or list three or more choices"
        return f"no range: {hint}"
    return None


def check_space(space: Mapping[str, Sequence[Value]], train: TrainParams) -> None:
    """Check that training with the settings `train` accepts each value of the space.

    A value is combined with `train`, not with the values of other settings of the space.

    Raises ValueError with `WHAT: HINT` for the first value that it refuses
    """
    for name, values in space.items():
        for value in _candidates(values):
            tree = train.model_dump()
            *sections, key = name.split(".")
            (tree[sections[0]] if sections else tree)[key] = value
            try:
                TrainParams.model_validate(tree)
            except ValidationError as error:
                reason = error.errors()[0]
                hint = str(reason.get("ctx", {}).get("error", reason["msg"]))
                raise ValueError(f"search.space has {_shown(value)} for {name}: {hint}") from None


def _shown(value: Any) -> str:
    """A value in an error text, in which `: ` separates the hint."""
    return repr(value).replace(": ", ":")


def _candidates(values: Sequence[Value]) -> Sequence[Value]:
    if is_range(values) and all(isinstance(value, int) for value in values):
        whole = range(int(values[0]), int(values[1]) + 1)
        return whole if len(whole) <= _MOST_WHOLE_NUMBERS else values
    return values


def _checked_values(name: str, values: Any) -> list[Value]:
    """The values of one setting in its type: [1, 5] for a setting that is not whole is [1.0, 5.0].

    Raises ValueError with `WHAT: HINT`
    """
    adapter = _train_field(name)
    if not isinstance(values, list | tuple):
        raise ValueError(f"search.space has {_shown(values)} for {name}: set [low, high] or list three or more choices")
    typed = [_typed(name, value, adapter) for value in values]
    if reason := fault(typed):
        raise ValueError(f"search.space has {_shown(values)} for {name}, {reason}")
    return typed


def _typed(name: str, value: Any, adapter: TypeAdapter[Any]) -> Value:
    try:
        typed: Value = adapter.validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ValueError(f"search.space has {_shown(value)} for {name}: {reason[0].lower()}{reason[1:]}") from None
    if isinstance(typed, bool) or not isinstance(typed, int | float | str):
        raise ValueError(f"search.space names {name!r}, which is no number and no word: set it in train")
    return typed


def _train_field(name: str) -> TypeAdapter[Any]:
    """The type of a setting of train by its dotted name.

    Raises ValueError when there is no such setting, or no trial reads it
    """
    section, key, fields = "train", name, TrainParams.model_fields
    parent, _, child = name.partition(".")
    if child and parent in fields and (inner := settings_class(fields[parent].annotation)):
        section, key, fields = f"train.{parent}", child, FIELDS if inner is ArchitectureParams else inner.model_fields
    if key not in fields:
        hint = suggestion(TrainParams, section.split(".")[1:], key)
        raise ValueError(f"search.space names {name!r}, no setting of {section}: {hint}")
    if settings_class(fields[key].annotation):
        raise ValueError(f"search.space names the section {name!r}: name one of its settings, e.g. architecture.width")
    if name in (RESULT_NEUTRAL["train"] | UNUSED_BY_SEARCH) - {"epochs"}:  # epochs of the space replace search.epochs
        raise ValueError(f"search.space names {name!r}, which does not change the score of a trial: set it in train")
    return TypeAdapter(checked_type(fields[key]), config=ConfigDict(strict=True))
