"""Settings of training."""

import dataclasses
import operator
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from mcti.params.architecture import FIELDS, FIELDS_FROM_DATA, Architecture, ArchitectureParams
from mcti.params.base import Params, refuse, refuse_text
from mcti.params.presets import NETWORKS, PRESETS, PresetName
from mcti.params.variants import NETWORK_FIELDS


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


class SourceParams(Params):
    """Another cohort that training learns from (docs/transfer.md)."""

    cohort: str = Field(min_length=1, description="cohort folder, s3:// or dvc+s3:// address")
    features: str | None = Field(
        None, min_length=1, description="its features: folder, s3:// or dvc+s3:// address; null: its genes alone"
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
    sources: tuple[SourceParams, ...] = Field(
        (),
        strict=False,
        exclude_if=operator.not_,
        description="other cohorts that training learns from: a list of {cohort: ADDRESS, features: ADDRESS or null} "
        "(docs/transfer.md)",
    )
    prior: str | None = Field(
        None,
        pattern=r"^models:/[^/@]+(@[^/@]+|/[0-9]+)$",
        exclude_if=operator.not_,
        description="registered model that training starts from: models:/NAME@ALIAS or models:/NAME/VERSION; null: "
        "none (docs/transfer.md)",
    )
    fine_tuning: Literal["none", "frozen", "partial", "full", "auto"] = Field(
        "none",
        description="layers of a network pretrained on `sources` or `prior` that training changes; none: it is not "
        "pretrained; frozen: heads; partial: all but the branches; full: all; auto: the best in inner folds; "
        "unused without sources and prior",
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
    def _preset_reads_the_fields(self) -> Self:
        read = NETWORK_FIELDS.get(NETWORKS[self.preset], tuple(FIELDS))
        for name, value in self.architecture.changes().items():
            if name not in read:
                text = f"preset {self.preset} does not read {name}: it reads {', '.join(read)}"
                refuse_text(("architecture", name), value, text)
        return self

    @model_validator(mode="after")
    def _architecture_fits_the_preset(self) -> Self:
        try:
            Architecture(**(PRESETS[self.preset] | self.architecture.changes()))
        except ValidationError as error:
            first = error.errors()[0]
            refuse(("architecture", *map(str, first["loc"])), first["input"], f"{first['msg']} (preset {self.preset})")
        return self

    def complete_architecture(self) -> dict[str, Any]:
        """Every field of the architecture, of the preset or changed; None where training takes it from the data."""
        changes = self.architecture.changes()
        from_data = {name: changes.get(name) for name in FIELDS_FROM_DATA}
        return dataclasses.asdict(Architecture(**(PRESETS[self.preset] | changes))) | from_data

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
