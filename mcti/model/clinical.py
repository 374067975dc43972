"""Clinical covariates as one more token of the joint sequence."""

import torch
from torch import Tensor, nn

from mcti.errors import DataError
from mcti.model.presets import ModelConfig


class ClinicalToken(nn.Module):
    """Covariates and what is missing of them to one token, after the gene tokens.

    covariates (b, V), standardised on the training part, NaN where missing -> token (b, 1, D), and what was read
    (b, 2V): the values, a missing one at the training mean (0), then an indicator 1 of each missing value.
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
    gone = covariates.isnan()
    return torch.cat((covariates.masked_fill(gone, 0.0), gone.to(covariates.dtype)), 1)


def check_covariates(config: ModelConfig, covariates: Tensor | None, patients: int) -> None:
    """Refuse covariates (b, V) of another number than the model reads, and any for a model that reads none."""
    expected = (patients, len(config.covariates))
    shape = (patients, 0) if covariates is None else tuple(covariates.shape)
    if shape != expected:
        raise DataError(
            f"covariates of shape {shape}, not {expected}",
            "the batch",
            f"give {', '.join(config.covariates)}" if config.covariates else "leave them out: the model reads none",
        )
    if covariates is not None and bool(covariates.isinf().any()):
        row, column = covariates.isinf().nonzero()[0].tolist()
        raise DataError(
            f"covariate {config.covariates[column]} is infinite", f"row {row} of the batch", "leave it empty (NaN)"
        )
