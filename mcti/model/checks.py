"""What must hold of a batch before any arithmetic, said with the patient's name and the row."""

from collections.abc import Sequence

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
    subtypes: Tensor | None = None,
    bins: Tensor | None = None,
    slides_present: Tensor | None = None,
    genes_present: Tensor | None = None,
    patients: Sequence[str] | None = None,
) -> None:
    """Refuse a batch that the network of this configuration cannot read; nothing is returned.

    patches (b, N, D_in), mask (b, N) bool, genes (b, G), subtypes (b,) class index, bins (b,) bin index, *_present (b,)
    bool; a modality that is flagged absent is not looked at. patients (b) names for the message.

    Raises DataError that names the patient and the row: shapes that do not belong together, a feature or gene vector of
    another width, an empty bag, NaN or infinity, a subtype or a time bin out of range.
    """
    names = patients if patients is not None else [f"row {row} of the batch" for row in range(len(patches))]
    _check_shapes(config, patches, mask, genes)
    slides_here = _flags("slides_present", slides_present, mask)
    genes_here = _flags("genes_present", genes_present, mask)
    _check_bags(patches, mask, slides_here, names)
    _check_genes(config, genes, genes_here, names)
    _check_range("subtype", subtypes, len(config.classes), "one of the classes " + ", ".join(config.classes), names)
    _check_range("time bin", bins, config.bins, f"a bin from 0 to {config.bins - 1}", names)


def _check_shapes(config: ModelConfig, patches: Tensor, mask: Tensor, genes: Tensor) -> None:
    if patches.dim() == 3 and len(patches) == 0:
        raise DataError("no patient", "the batch", "give at least one")
    if patches.dim() != 3 or patches.shape[-1] != config.features:
        raise DataError(
            f"patch features of shape {tuple(patches.shape)}",
            "the batch",
            f"the model was made for features {config.features} wide: extract with its encoder",
        )
    if mask.dtype != torch.bool or mask.shape != patches.shape[:2] or mask.shape[1] == 0:
        raise DataError(
            f"a mask of shape {tuple(mask.shape)} and type {mask.dtype}",
            "the batch",
            f"give bool of shape {tuple(patches.shape[:2])} with at least one row",
        )
    if genes.shape != (len(patches), len(config.genes)):
        raise DataError(
            f"gene vectors of shape {tuple(genes.shape)}",
            "the batch",
            f"the model reads {len(config.genes)} genes of each of the {len(patches)} patients, in its own order",
        )


def _flags(name: str, flags: Tensor | None, mask: Tensor) -> Tensor:
    """(b,) bool, as given or all True."""
    if flags is None:
        return torch.ones_like(mask[:, 0])
    if flags.dtype != torch.bool or flags.shape != mask.shape[:1]:
        what = f"{name} of shape {tuple(flags.shape)} and type {flags.dtype}"
        raise DataError(what, "the batch", f"give bool of shape {tuple(mask.shape[:1])}")
    return flags


def _check_bags(patches: Tensor, mask: Tensor, present: Tensor, names: Sequence[str]) -> None:
    empty = (present & ~mask.any(1)).nonzero()
    if len(empty):
        raise DataError("the bag is empty", f"patient {names[int(empty[0])]}", "extract features or drop the patient")
    if finite(patches):
        return
    wrong = (~torch.isfinite(patches).all(-1) & mask & present[:, None]).nonzero()
    if len(wrong):
        patient, row = wrong[0].tolist()
        raise DataError(
            "a patch feature is NaN or infinite",
            f"patient {names[patient]}, patch row {row}",
            "extract that slide anew",
        )
    raise DataError("NaN or infinity in the padding of the batch", "the batch", "pad with zeros")


def _check_genes(config: ModelConfig, genes: Tensor, present: Tensor, names: Sequence[str]) -> None:
    if finite(genes):
        return
    wrong = (~torch.isfinite(genes) & present[:, None]).nonzero()
    if len(wrong):
        patient, gene = wrong[0].tolist()
        raise DataError(
            f"the value of gene {config.genes[gene]} is {float(genes[patient, gene])}",
            f"patient {names[patient]}",
            "impute it on the training fold, or drop the patient",
        )
    # An absent vector is replaced after the branch, where NaN times zero would still be NaN in the gradient.
    raise DataError("NaN in the gene vector of a patient without genes", "the batch", "fill absent vectors with 0")


def _check_range(what: str, values: Tensor | None, count: int, hint: str, names: Sequence[str]) -> None:
    if values is None:
        return
    if values.is_floating_point() or values.shape != (len(names),):
        what = f"{what} numbers of shape {tuple(values.shape)} and type {values.dtype}"
        raise DataError(what, "the batch", f"give {len(names)} whole numbers, each {hint}")
    wrong = ((values < 0) | (values >= count)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise DataError(f"{what} {int(values[row])} is out of range", f"patient {names[row]}", f"give {hint}")
