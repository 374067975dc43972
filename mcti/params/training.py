"""Settings of training and of the search for its settings."""

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from mcti.errors import did_you_mean
from mcti.params.architecture import FIELDS, Architecture, ArchitectureParams
from mcti.params.base import Params, checked_type, refuse, settings_class
from mcti.params.presets import PRESETS, PresetName


def unique_months(months: tuple[float, ...]) -> tuple[float, ...]:
    """Months above 0 whose columns (`S_36`) have different names.

    Raises ValueError when a month is not above 0 or is listed twice
    """
    names = [f"{month:g}" for month in months]
    if invalid := [name for month, name in zip(months, names, strict=True) if month <= 0]:
        raise ValueError(f"{invalid[0]} months: set months after the start of follow-up, above 0")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{twice[0]} months are listed twice: list each once")
    return months


class BinParams(Params):
    """Discrete time, cut on the training fold."""

    count: int = Field(4, ge=2, le=64, description="B, number of time bins")
    placement: Literal["quantile", "uniform"] = Field(
        "quantile", description="edges at quantiles of the training fold's uncensored times, or at equal distances"
    )


class TrainParams(Params):
    """Training of one model per fold."""

    seed: int = Field(7, ge=0, description="seed of the weights, the order of the patients and the sampled patches")
    preset: PresetName = Field(
        "compact", description="architecture (docs/model.md); a comparator or an ablation for comparison"
    )
    architecture: ArchitectureParams = ArchitectureParams()
    bins: BinParams = BinParams()
    epochs: int = Field(4, ge=1, description="epochs; the last weights are the model")
    batch_patients: int = Field(64, ge=1, description="patients per step")
    bag_cap: int = Field(
        4096, ge=1, description="patches sampled per patient and epoch in training; evaluation uses all of them"
    )
    learning_rate: float = Field(
        5e-3, gt=0, le=1e36, description="largest step size of the optimizer; beyond 1e36 a step overflows float32"
    )
    weight_decay: float = Field(0.1, ge=0, description="decoupled weight decay of matrices, times the learning rate")
    gene_transform: Literal["none", "winsor", "rank"] = Field(
        "none",
        description="transform of the genes before standardisation, fitted on the training part: winsor limits to the "
        "1 % and 99 % quantiles; rank gives normal scores; for declared z-scores with extreme values",
    )
    optimizer: Literal["adamw", "bf16_adafactor"] = Field(
        "adamw",
        description="bf16_adafactor: bf16 matrices, factored moments, 4 bytes per weight; needs precision bf16",
    )
    warmup_share: float = Field(0.1, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the gradient; longer ones are scaled to it")
    micro_patients: int = Field(0, ge=0, description="patients of a step in memory at one time; 0: all of them")
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay per step of the exponential average of the weights; 0: the last weights"
    )
    survival_loss: Literal["nll", "cox", "ranking"] = Field(
        "nll", description="discrete-time likelihood; the others add their term on the risks of a step"
    )
    cox_ties: Literal["efron", "breslow"] = Field("efron", description="tied event times in the Cox likelihood")
    pair_memory: int = Field(
        0,
        ge=0,
        description="number of patients of earlier steps, at their last risk, in the comparisons of cox and ranking",
    )
    alpha: float = Field(0.3, ge=0, le=1, description="weight of the uncensored terms in the survival loss")
    lambda_survival: float = Field(1.0, gt=0, description="weight of the survival loss")
    lambda_subtype: float = Field(0.3, ge=0, description="weight of the subtype loss")
    lambda_instance: float = Field(0.3, ge=0, description="weight of the instance (patch) loss")
    modalities: Literal["both", "slides", "genes"] = Field(
        "both", description="modalities that training and its models read"
    )
    modality_dropout: float = Field(
        0.0, ge=0, lt=1, description="probability of hiding slides or genes of a training patient"
    )
    patience: int = Field(
        0, ge=0, description="epochs without a lower inner validation loss before training stops; 0: all epochs"
    )
    validation_share: float = Field(
        0.2, gt=0, lt=0.5, description="share of the training part held out for `patience`; unused without it"
    )
    recalibration_folds: int = Field(
        0,
        ge=0,
        le=10,
        description="inner folds whose models recalibrate the survival curves (3: three times the run time); 0: none",
    )
    cox_weight: float = Field(
        0.5,
        ge=0,
        le=1,
        description="weight of a ridge Cox model on the same inputs in the hazard logits; 0: the network alone",
    )
    precision: Literal["float32", "bf16", "fp16"] = Field(
        "float32", description="arithmetic of the forward pass; fp16 scales the loss"
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU if present, otherwise the CPU")
    threads: int = Field(
        1,
        ge=1,
        description="threads of one training process; fixed, so that the bits do not depend on the load of the machine",
    )
    workers: int = Field(0, ge=0, description="folds trained at the same time; 0: one per core")
    checkpoint_seconds: float = Field(20.0, ge=0, description="least time between two checkpoints of a run, in seconds")
    horizons_months: tuple[float, ...] = Field(
        (12.0, 36.0, 60.0), min_length=1, description="months t at which S(t) is predicted", strict=False
    )

    _horizons = field_validator("horizons_months")(unique_months)

    @model_validator(mode="after")
    def _architecture_fits_the_preset(self) -> Self:
        try:
            Architecture(**(PRESETS[self.preset] | self.architecture.changes()))
        except ValidationError as error:
            first = error.errors()[0]
            refuse(("architecture", *map(str, first["loc"])), first["input"], f"{first['msg']} (preset {self.preset})")
        return self

    @model_validator(mode="after")
    def _bf16_adafactor_needs_bf16(self) -> Self:
        if self.optimizer == "bf16_adafactor" and self.precision != "bf16":
            raise ValueError(f"optimizer bf16_adafactor needs bf16, and precision is {self.precision}: set it to bf16")
        return self

    @model_validator(mode="after")
    def _two_inner_folds(self) -> Self:
        if self.recalibration_folds == 1:
            raise ValueError("recalibration_folds 1 leaves no patient to train on: set it to 0 (none) or 2 and more")
        return self


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
        description="setting of train, dotted (architecture.width) -> [low, high] (log scale) or three or more choices",
    )
    storage: str | None = Field(
        None,
        description="null: a SQLite file with the result; postgresql://…: one study for all running `mcti search`",
    )
    heartbeat_seconds: int = Field(
        30,
        ge=1,
        description="PostgreSQL: seconds between heartbeats of a trial; after two missed ones it is assigned again",
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
        if not isinstance(space, dict):
            return space
        dotted: dict[Any, Any] = {}
        for name, values in space.items():
            dotted |= (
                {f"{name}.{key}": value for key, value in values.items()}
                if isinstance(values, dict)
                else {name: values}
            )
        return dotted

    @field_validator("space")
    @classmethod
    def _space_fits_train(cls, space: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for name, values in space.items():
            field = _train_field(name)
            for value in values:
                try:
                    field.validate_python(value)
                except ValidationError as error:
                    reason = error.errors()[0]["msg"]
                    raise ValueError(
                        f"search.space has {value!r} for {name}: {reason[0].lower()}{reason[1:]}"
                    ) from None
        return space


def _train_field(name: str) -> TypeAdapter[Any]:
    """The type of a setting of train by its dotted name.

    Raises ValueError when there is no such setting
    """
    section, key, fields = "train", name, TrainParams.model_fields
    parent, _, child = name.partition(".")
    if child and parent in fields and (inner := settings_class(fields[parent].annotation)):
        section, key, fields = f"train.{parent}", child, FIELDS if inner is ArchitectureParams else inner.model_fields
    if key not in fields:
        hint = f"did you mean architecture.{key}?" if key in FIELDS else did_you_mean(key, fields)
        raise ValueError(f"search.space names {name!r}, no setting of {section}: {hint}")
    if settings_class(fields[key].annotation):
        raise ValueError(f"search.space names the section {name!r}: name one of its settings, e.g. architecture.width")
    return TypeAdapter(checked_type(fields[key]), config=ConfigDict(strict=True))
