"""Clinical covariates as an additional token of the joint sequence."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mcti.errors import DataError
from mcti.model.categories import CovariateValue, indicator_positions
from mcti.model.presets import ModelConfig
from mcti.params.data import AGE_YEARS


class ClinicalToken(nn.Module):
    """Covariates and indicators of missing values to one token, after the gene tokens.

    covariates (b, V), standardised on the training part, NaN where missing -> token (b, 1, D), and its
    input (b, V + C): the V columns, a missing value at the training mean (0), then an indicator 1 of each of the C
    covariates that is missing. A numeric covariate is one column, a categorical one several (categories.py).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.indicators = indicator_positions(config.clinical_inputs)
        self.embed = nn.Sequential(
            nn.Linear(config.clinical_width, config.width),
            nn.GELU(),
            nn.Linear(config.width, config.width),
        )

    def forward(self, covariates: Tensor) -> tuple[Tensor, Tensor]:
        """(b, V) -> (b, 1, D), (b, V + C)."""
        read = read_covariates(covariates, self.indicators)
        return self.embed(read)[:, None], read


def read_covariates(covariates: Tensor, indicators: Sequence[int]) -> Tensor:
    """(b, V), NaN where missing -> (b, V + C): the values, a missing one 0, then 1 for each missing covariate.

    indicators  C positions, the first column of each covariate (`mcti.model.categories.indicator_positions`)
    """
    missing = covariates.isnan()
    flags = missing[:, list(indicators)]
    return torch.cat((covariates.masked_fill(missing, 0.0), flags.to(covariates.dtype)), 1)


RANGES: dict[str, tuple[float, float]] = {"age": AGE_YEARS, "is_female": (0.0, 1.0)}
"""Range that the data contract requires of a covariate; any other covariate has the unit of its source."""


def check_ranges(covariates: Mapping[str, CovariateValue], names: Sequence[str]) -> None:
    """Check the covariates (V,) of one patient against their RANGES, in the units of the table; missing values pass.

    Raises DataError when a value is outside its range
    """
    for name in names:
        low, high = RANGES.get(name, (-math.inf, math.inf))
        value = covariates.get(name)
        if isinstance(value, str):  # the model refuses it where it reads a number
            continue
        if value is not None and not math.isnan(value) and not low <= value <= high:
            hint = "give age in years" if name == "age" else "write 1 (female), 0 (male) or nothing"
            raise DataError(f"covariate {name!r} is {value:g}, not {low:g} to {high:g}", "the patient", hint)


def check_covariates(config: ModelConfig, covariates: Tensor | None, patients: int) -> None:
    """Check the covariates (b, V) of a batch.

    Raises DataError when their number differs from that of the model, or a value is infinite
    """
    expected = (patients, len(config.clinical_columns))
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
            f"covariate {config.clinical_columns[column]} is infinite",
            f"row {row} of the batch",
            "leave it empty (NaN)",
        )
