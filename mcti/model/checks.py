"""Checks of a batch before any arithmetic; an error names the row of the batch."""

import torch
from torch import Tensor

from mcti.errors import DataError
from mcti.model.presets import ModelConfig
from mcti.model.transport.plan import finite, untraced


@untraced
def check_inputs(
    config: ModelConfig,
    patches: Tensor,
    mask: Tensor,
    genes: Tensor,
    *,
    slides_present: Tensor | None = None,
    genes_present: Tensor | None = None,
) -> None:
    """Check a batch before any arithmetic.

    patches (b, N, D_in), mask (b, N) bool, genes (b, G), *_present (b,) bool; an absent modality is not checked.

    Raises DataError, which names the row of the batch, when shapes do not match each other or the configuration, a bag
                     is empty, or a value is NaN or infinite
    """
    _check_shapes(config, patches, mask, genes)
    slides_present = _flags("slides_present", slides_present, mask)
    genes_present = _flags("genes_present", genes_present, mask)
    _check_bags(patches, mask, slides_present)
    _check_genes(config, genes, genes_present)


def _check_shapes(config: ModelConfig, patches: Tensor, mask: Tensor, genes: Tensor) -> None:
    if patches.dim() == 3 and len(patches) == 0:
        raise DataError("no patient", "the batch", "pass at least one")
    if patches.dim() != 3 or patches.shape[-1] != config.features:
        raise DataError(
            f"patch features of shape {tuple(patches.shape)}",
            "the batch",
            f"the model reads features {config.features} wide: extract with its encoder",
        )
    if mask.dtype != torch.bool or mask.shape != patches.shape[:2] or mask.shape[1] == 0:
        raise DataError(
            f"a mask of shape {tuple(mask.shape)} and type {mask.dtype}",
            "the batch",
            f"pass bool of shape {tuple(patches.shape[:2])} with at least one row",
        )
    if genes.shape != (len(patches), len(config.genes)):
        raise DataError(
            f"gene vectors of shape {tuple(genes.shape)}",
            "the batch",
            f"pass {len(config.genes)} genes for each of the {len(patches)} patients, in the order of the model",
        )


def _flags(name: str, flags: Tensor | None, mask: Tensor) -> Tensor:
    """(b,) bool; all True without flags."""
    if flags is None:
        return torch.ones_like(mask[:, 0])
    if flags.dtype != torch.bool or flags.shape != mask.shape[:1]:
        what = f"{name} of shape {tuple(flags.shape)} and type {flags.dtype}"
        raise DataError(what, "the batch", f"pass bool of shape {tuple(mask.shape[:1])}")
    return flags


def _check_bags(patches: Tensor, mask: Tensor, present: Tensor) -> None:
    empty = (present & ~mask.any(1)).nonzero()
    if len(empty):
        raise DataError(
            "the bag is empty", f"row {int(empty[0])} of the batch", "extract features or exclude the patient"
        )
    if finite(patches):
        return
    invalid = (~torch.isfinite(patches).all(-1) & mask & present[:, None]).nonzero()
    if len(invalid):
        patient, row = invalid[0].tolist()
        raise DataError(
            "a patch feature is NaN or infinite",
            f"row {patient} of the batch, patch row {row}",
            "extract that slide again",
        )
    raise DataError("NaN or infinity in the padding of the batch", "the batch", "pad with zeros")


def _check_genes(config: ModelConfig, genes: Tensor, present: Tensor) -> None:
    if finite(genes):
        return
    invalid = (~torch.isfinite(genes) & present[:, None]).nonzero()
    if len(invalid):
        patient, gene = invalid[0].tolist()
        raise DataError(
            f"the value of gene {config.genes[gene]} is {float(genes[patient, gene])}",
            f"row {patient} of the batch",
            "impute it on the training fold, or exclude the patient",
        )
    # An absent vector is replaced only after the branch: NaN times zero would make the gradient NaN.
    raise DataError("NaN in the gene vector of a patient without genes", "the batch", "fill absent vectors with 0")
