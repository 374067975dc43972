"""Clinical covariates as an additional token of the joint sequence."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mcti.errors import DataError
from mcti.model.presets import ModelConfig
from mcti.params.data import AGE_YEARS


class ClinicalToken(nn.Module):
    """Covariates and indicators of missing values to one token, after the gene tokens.

    covariates (b, V), standardised on the training part, NaN where missing -> token (b, 1, D), and its
    input (b, 2V): the values, a missing one at the training mean (0), then an indicator 1 of each missing value.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            nn.Linear(2 * len(config.covariates), config.width),
            nn.GELU(),
            nn.Linear(config.width, config.width),
        )

    def forward(self, covariates: Tensor) -> tuple[Tensor, Tensor]:
        """(b, V) -> (b, 1, D), (b, 2V)."""
        read = read_covariates(covariates)
        return self.embed(read)[:, None], read


def read_covariates(covariates: Tensor) -> Tensor:
    """(b, V), NaN where missing -> (b, 2V): the values, a missing one 0, then an indicator 1 of each missing value."""
    missing = covariates.isnan()
    return torch.cat((covariates.masked_fill(missing, 0.0), missing.to(covariates.dtype)), 1)


RANGES: dict[str, tuple[float, float]] = {"age": AGE_YEARS, "is_female": (0.0, 1.0)}
"""Range that the data contract requires of a covariate; any other covariate has the unit of its source."""


def check_ranges(covariates: Mapping[str, float | None], names: Sequence[str]) -> None:
    """Check the covariates (V,) of one patient against their RANGES, in the units of the table; missing values pass.

    Raises DataError when a value is outside its range
    """
    for name in names:
        low, high = RANGES.get(name, (-math.inf, math.inf))
        value = covariates.get(name)
        if value is not None and not math.isnan(value) and not low <= value <= high:
            hint = "give age in years" if name == "age" else "write 1 (female), 0 (male) or nothing"
            raise DataError(f"covariate {name!r} is {value:g}, not {low:g} to {high:g}", "the patient", hint)


def check_covariates(config: ModelConfig, covariates: Tensor | None, patients: int) -> None:
    """Check the covariates (b, V) of a batch.

    Raises DataError when their number differs from that of the model, or a value is infinite
    """
    expected = (patients, len(config.covariates))
    shape = (patients, 0) if covariates is None else tuple(covariates.shape)
    if shape != expected:
        raise DataError(
            f"covariates of shape {shape}, not {expected}",
            "the batch",
            f"give {', '.join(config.covariates)}" if config.covariates else "omit them: the model reads none",
        )
    if covariates is not None and bool(covariates.isinf().any()):
        row, column = covariates.isinf().nonzero()[0].tolist()
        raise DataError(
            f"covariate {config.covariates[column]} is infinite", f"row {row} of the batch", "leave it empty (NaN)"
        )
