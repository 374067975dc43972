"""Padded, standardised batches of patients."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mcti.dataset.bags import PatientBag, covariate_table, entries
from mcti.dataset.sampling import draw_patches
from mcti.dataset.time_bins import bin_index
from mcti.model.categories import ClinicalInput
from mcti.model.trained import Fitted


@dataclass(frozen=True)
class Batch:
    """b patients, padded to the longest bag N of the batch.

    patches (b, N, D) standardised, 0 where padded; mask (b, N) True on real rows; genes (b, G) standardised;
    bins (b,) the time bin; times (b,) months; events (b,) bool; subtypes (b,);
    slides_present, genes_present (b,) bool; covariates (b, V) standardised, NaN where missing, None: none are read
    entries (b,) months of entry under observation, None: all patients are observed from the origin
    """

    patient_ids: tuple[str, ...]
    patches: Tensor
    mask: Tensor
    genes: Tensor
    bins: Tensor
    times: Tensor
    events: Tensor
    subtypes: Tensor
    slides_present: Tensor
    genes_present: Tensor
    covariates: Tensor | None
    entries: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        moved: dict[str, Any] = {name: value.to(device) for name, value in tensors.items()}
        return dataclasses.replace(self, **moved)

    def with_presence(self, slides_present: Tensor, genes_present: Tensor) -> "Batch":
        """The same batch with other presence flags, (b,) bool each."""
        return dataclasses.replace(self, slides_present=slides_present, genes_present=genes_present)


def collate(
    bags: Sequence[PatientBag],
    fitted: Fitted,
    cap: int,
    key: tuple[int | str, ...],
    covariates: Sequence[ClinicalInput] = (),
) -> Batch:
    """One padded, standardised batch.

    cap         patches per patient; of a longer bag `cap` are drawn
    key         (seed, epoch): decides the draw
    covariates  that the model reads, in its order
    """
    rows = [_standardised_patches(bag, fitted, cap, key) for bag in bags]
    mask = pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in rows], batch_first=True)
    times = torch.tensor([bag.time_months for bag in bags], dtype=torch.float64)
    no_genes = torch.zeros(len(fitted.genes.mean))
    return Batch(
        patient_ids=tuple(bag.patient_id for bag in bags),
        patches=pad_sequence(rows, batch_first=True),
        mask=mask,
        genes=torch.stack([no_genes if bag.genes is None else fitted.genes(bag.genes) for bag in bags]),
        bins=bin_index(times, fitted.edges),
        times=times.float(),
        events=torch.tensor([bag.event for bag in bags]),
        subtypes=torch.tensor([bag.subtype for bag in bags]),
        slides_present=torch.tensor([bag.patches is not None for bag in bags]),
        genes_present=torch.tensor([bag.genes is not None for bag in bags]),
        covariates=fitted.covariates.standardised(covariate_table(bags, covariates)) if covariates else None,
        entries=None if (entry := entries(bags)) is None else torch.from_numpy(entry).float(),
    )


def _standardised_patches(bag: PatientBag, fitted: Fitted, cap: int, key: tuple[int | str, ...]) -> Tensor:
    if bag.patches is None:
        return torch.zeros(1, len(fitted.features.mean))
    return fitted.features(draw_patches(bag.patches, cap, (*key, bag.patient_id)))
