"""The command `mcti model info`: parameters, operations and memory of a model, by part."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcti import storage
from mcti.errors import DataError
from mcti.params import TrainParams, check
from mcti.steps.result import StepResult

if TYPE_CHECKING:
    from mcti.model.presets import ModelConfig


class InfoResult(StepResult):
    """Parameters by part, floating point operations and memory of one patient with `patches` patches."""

    preset: str
    width: int
    sequence: int
    genes: int
    feature_width: int
    parameters: dict[str, int]
    parameters_total: int
    patches: int
    forward_flops: dict[str, int]
    forward_flops_total: int
    training_flops: int
    memory_bytes: dict[str, int]
    memory_bytes_total: int

    def lines(self) -> list[str]:
        """A human-readable table."""
        head = f"preset {self.preset}: width {self.width}, {self.sequence} tokens, {self.genes} genes, "
        table = [(f"parameters, {part}", f"{count:,}") for part, count in self.parameters.items()]
        table += [("parameters, all", f"{self.parameters_total:,}")]
        table += [(f"forward GFLOP, {part}", f"{count / 1e9:,.3f}") for part, count in self.forward_flops.items()]
        table += [("forward GFLOP, all", f"{self.forward_flops_total / 1e9:,.3f}")]
        table += [("training step GFLOP", f"{self.training_flops / 1e9:,.3f}")]
        table += [(f"training MB, {part}", f"{count / 1e6:,.1f}") for part, count in self.memory_bytes.items()]
        table += [("training MB, all", f"{self.memory_bytes_total / 1e6:,.1f}")]
        rows = [f"  {name:<32}{value:>18}" for name, value in table]
        return [head + f"features of {self.feature_width}, one patient of {self.patches} patches", *rows]


def info(
    model: str, params: TrainParams, *, features: int = 1024, genes: int = 1558, classes: int = 2, patches: int = 4000
) -> InfoResult:
    """Parameters, arithmetic and memory of a preset, of a folder with a model.json, or of a registered version.

    For a preset the numbers of inputs are `features`, `genes` and `classes`; the defaults are those of the published
    reference.

    Raises DataError when there is no such model
    """
    from mcti.model.presets import preset
    from mcti.model.summary import describe
    from mcti.params.presets import PRESETS

    if model in PRESETS:
        params = check(TrainParams, params.model_dump() | {"preset": model}, "the settings")
        names = [f"gene_{number}" for number in range(genes)], [f"class_{number}" for number in range(classes)]
        bins = params.bins.count
        config = preset(
            model, features=features, genes=names[0], classes=names[1], bins=bins, **params.architecture.changes()
        )
    else:
        config = _configured(model)
    cost = describe(config, patches).as_dict()
    shape = {"width": config.width, "sequence": config.length, "genes": len(config.genes)}
    return InfoResult(preset=config.preset, feature_width=config.features, **shape, **cost)


def _configured(model: str) -> "ModelConfig":
    if Path(model).is_dir():
        return _first_config(Path(model))
    from mcti.registry import models

    with tempfile.TemporaryDirectory(prefix="mcti-info-") as scratch:
        return _first_config(models.fetch(model, Path(scratch)))


def _first_config(folder: Path) -> "ModelConfig":
    from mcti.model.presets import ModelConfig

    files = sorted(folder.rglob("model.json"))
    if not files:
        raise DataError(
            "no model.json", str(folder), "name a preset, a folder `mcti train` wrote, or models:/NAME@ALIAS"
        )
    spec: dict[str, Any] = storage.read_json(files[0])
    return ModelConfig.from_json(storage.to_json(spec["config"]), str(files[0]))
