"""Weights of a trained network as the first weights of another one: genes by name, the rest by name and shape."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mcti.errors import DataError
from mcti.model.comparators import Comparator, build
from mcti.model.network import MCTI
from mcti.model.presets import ModelConfig
from mcti.params.architecture import Architecture

_MAY_DIFFER = frozenset(
    ["dropout", "gene_dropout", "missing", "covariates", "modalities", "block", "hard_negatives", "critical_share"]
)
"""Fields of the architecture that change no weight that is copied."""
_HAZARDS = ("survival_head.out.bias", "survival_head.bias")
_SLIDE_LAYERS = ("pathology.", "axes.features", "embed.", "pool.")
_SLIDE_PATHS = (".linear_skip.slides.", ".linear_skip.pairing.")
_CLINICAL_INPUTS = ("clinical.embed.0.weight", "clinical.weight")
"""Ends of the names of weights with one column per column of the covariates."""


def cohort_tensors(config: ModelConfig) -> frozenset[str]:
    """Names of the tensors that belong to one cohort: a row per subtype, and the hazard of each time bin."""
    wider = dataclasses.replace(config, classes=(*config.classes, "one more class"))
    shapes, more = _shapes(config), _shapes(wider)
    return frozenset(name for name in shapes if shapes[name] != more[name] or name in _HAZARDS)


def copy_weights(
    net: MCTI | Comparator, tensors: Mapping[str, Tensor], config: ModelConfig, *, slides: bool = True
) -> tuple[str, ...]:
    """Copy trained weights into a network; the names of the tensors that were copied.

    tensors, config  weights by name and configuration of the trained network
    slides           whether the patch features of both have one meaning (one encoder)

    Not copied, so that they keep their first weights: what belongs to one cohort (`cohort_tensors`), the Cox branch,
    layers that read slides where these differ, weights of the columns of the covariates where their levels differ,
    tensors of another shape, and rows of genes that the trained network does not have. An axis of the trained network
    has the loading 0 on such a gene.

    Raises DataError when the architectures differ
    """
    _check_architecture(config, net.config)
    slides = slides and "slides" in config.modalities and config.features == net.config.features
    skipped, columns, copied = cohort_tensors(net.config), _gene_axis(net.config), []
    if config.categories != net.config.categories:
        skipped |= {name for name in net.state_dict() if name.endswith(_CLINICAL_INPUTS)}
    for name, tensor in net.state_dict().items():
        source = tensors.get(name)
        if source is None or name in skipped or name.startswith("cox_branch.") or not (slides or not _of_slides(name)):
            continue
        if name in columns:
            done = _copy_genes(tensor, source, columns[name], config.genes, net.config.genes, name == "axes.genes")
        elif done := source.shape == tensor.shape:
            with torch.no_grad():
                tensor.copy_(source)
        copied += [name] if done else []
    return tuple(copied)


def shared_genes(config: ModelConfig, genes: Sequence[str]) -> int:
    """The number of these genes that a network of this configuration reads."""
    return len(set(config.genes) & set(genes))


def _of_slides(name: str) -> bool:
    return name.startswith(_SLIDE_LAYERS) or any(path in name for path in _SLIDE_PATHS)


@torch.no_grad()
def _copy_genes(
    tensor: Tensor, source: Tensor, axis: int, old: Sequence[str], new: Sequence[str], zero_first: bool
) -> bool:
    """Copy the rows or columns of the genes that both have; false where the other sizes differ."""
    sizes = [list(values.shape) for values in (tensor, source)]
    for size in sizes:
        size.pop(axis)
    if sizes[0] != sizes[1]:
        return False
    position = {gene: number for number, gene in enumerate(old)}
    pairs = [(number, position[gene]) for number, gene in enumerate(new) if gene in position]
    if zero_first:
        tensor.zero_()
    if pairs:
        target_rows, source_rows = (torch.tensor(rows, device=tensor.device) for rows in zip(*pairs, strict=True))
        tensor.index_copy_(axis, target_rows, source.to(tensor).index_select(axis, source_rows))
    return True


def _check_architecture(trained: ModelConfig, config: ModelConfig) -> None:
    names = ["network", *(field.name for field in dataclasses.fields(Architecture) if field.name not in _MAY_DIFFER)]
    for name in names:
        one, other = getattr(trained, name), getattr(config, name)
        if one != other:
            what = f"{name} is {one} in the pretrained network and {other} in train"
            hint = "use its preset and architecture, or set train.fine_tuning to none"
            raise DataError(what, "train.architecture", hint)


def _gene_axis(config: ModelConfig) -> dict[str, int]:
    """The axis of each tensor along which its entries are genes."""
    if config.gene_axes:
        return {"axes.genes": 1}
    more = _shapes(dataclasses.replace(config, genes=(*config.genes, "one more gene")))
    axes = {}
    for name, shape in _shapes(config).items():
        changed = [axis for axis, size in enumerate(shape) if size != more[name][axis]]
        if len(changed) == 1 and shape[changed[0]] == len(config.genes):
            axes[name] = changed[0]
    return axes


@functools.lru_cache(maxsize=8)  # a fine-tuning needs those of the same few configurations before each training
def _shapes(config: ModelConfig) -> Mapping[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in build(config).state_dict().items()}
