"""Patients as bags of patches with genes and outcome, and the cohort that they form in memory."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mcti.arrays import FloatArray
from mcti.errors import DataError
from mcti.model.categories import Category, ClinicalInput, CovariateValue
from mcti.model.trained import check_bag, covariate_row


@dataclass(frozen=True)
class SlideTiles:
    """The tiles of one slide; they fill consecutive rows of the bag.

    count        number of tiles
    coordinates  (count, 2) int64 top-left corners in level-0 pixels, or None: the feature file has none
    """

    slide_id: str
    count: int
    coordinates: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class TilePosition:
    """Where one patch of a bag lies: its slide, level-0 corner (None: not recorded) and number in the feature file.

    number  counts from 1;  count: tiles of the slide
    """

    slide_id: str
    x: int | None
    y: int | None
    number: int
    count: int


@dataclass(frozen=True)
class PatientBag:
    """One patient as the network reads them; nothing is standardised.

    patches  (N, D) float32 features of all slides, or None: no slides
    genes    (G,) float32 expression, NaN where not measured, or None: no expression at all
    subtype  position in the list of classes
    covariates  numeric clinical covariates by name, None or NaN where missing
    categories  categorical clinical covariates by name: the level as text, None where missing
    quality     quality figures of the slides by name, as extraction counted them; no network reads them
    slides      the slides in the order of their rows in `patches`; their counts add up to N
    entry_months    entry under observation, from the origin of time_months (left truncation)
    competing   whether a competing event ended the observation; None: the cohort does not record such events
    """

    patient_id: str
    patches: Tensor | None
    genes: Tensor | None
    time_months: float
    event: bool
    subtype: int
    covariates: Mapping[str, float | None] = field(default_factory=dict)
    quality: Mapping[str, float] = field(default_factory=dict)
    slides: tuple[SlideTiles, ...] = ()
    categories: Mapping[str, str | None] = field(default_factory=dict)
    entry_months: float = 0.0
    competing: bool | None = None

    @property
    def clinical(self) -> dict[str, CovariateValue]:
        """All clinical covariates by name, numeric and categorical."""
        return {**self.covariates, **self.categories}

    def with_inputs(self, inputs: Sequence[ClinicalInput]) -> "PatientBag":
        """The same patient with these covariates only.

        One that the patient's cohort lacks, or has as text in place of a number (or the reverse), is missing.
        """
        numbers = {one: self.covariates.get(one) for one in inputs if isinstance(one, str)}
        texts = {one.name: self.categories.get(one.name) for one in inputs if isinstance(one, Category)}
        return dataclasses.replace(self, covariates=numbers, categories=texts)

    def tile_position(self, row: int) -> TilePosition:
        """Slide and coordinates of the patch in this row of the bag.

        Raises IndexError when the bag has no such row or no record of its slides.
        """
        number = row
        for slide in self.slides:
            if 0 <= number < slide.count:
                x, y = (None, None) if slide.coordinates is None else map(int, slide.coordinates[number])
                return TilePosition(slide.slide_id, x, y, number + 1, slide.count)
            number -= slide.count
        raise IndexError(f"the bag of patient {self.patient_id} has no tile position of row {row}")


@dataclass(frozen=True)
class Dataset:
    """The patients of a cohort in memory: bags by patient_id, names of the genes, names of the subtypes.

    provenance  how the features were extracted: encoder, SHA-256 of its weights, µm/px, tissue method, where recorded
    cohort      {name, endpoint} of the cohort, for the patient reports; empty for new patients
    ordered     the levels of each ordered categorical covariate, lowest first (ingest.ordered_levels)
    """

    bags: Mapping[str, PatientBag]
    genes: tuple[str, ...]
    classes: tuple[str, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    cohort: Mapping[str, str] = field(default_factory=dict)
    ordered: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def restricted_to(self, modalities: str) -> "Dataset":
        """The same patients with `slides` alone, with `genes` alone, or with `both` unchanged."""
        removed: dict[str, dict[str, Any]] = {"slides": {"genes": None}, "genes": {"patches": None, "slides": ()}}
        if modalities not in removed:
            return self
        bags = {patient: dataclasses.replace(bag, **removed[modalities]) for patient, bag in self.bags.items()}
        return dataclasses.replace(self, bags=bags)

    def with_genes(self, genes: Sequence[str]) -> "Dataset":
        """The same patients with these genes in this order: NaN for a gene without a column, other columns are dropped.

        A patient without any expression remains without it.
        """
        columns = {name: column for column, name in enumerate(self.genes)}
        known = [position for position, name in enumerate(genes) if name in columns]
        chosen = [columns[genes[position]] for position in known]

        def align(values: Tensor) -> Tensor:
            aligned = values.new_full((len(genes),), float("nan"))
            aligned[known] = values[chosen]
            return aligned

        bags = {
            patient: bag if bag.genes is None else dataclasses.replace(bag, genes=align(bag.genes))
            for patient, bag in self.bags.items()
        }
        return dataclasses.replace(self, bags=bags, genes=tuple(genes))

    def measured_genes(self) -> int:
        """Number of genes with a value of at least one patient."""
        rows = [bag.genes.isfinite() for bag in self.bags.values() if bag.genes is not None]
        return int(torch.stack(rows).any(dim=0).sum()) if rows else 0

    @cached_property
    def version(self) -> str:
        """MD5 of everything that training can read of all patients, and of the names of genes and classes."""
        covariates = sorted({name for bag in self.bags.values() for name in bag.clinical})
        names = [*self.genes, "", *self.classes, "", *covariates, "", *self.bags]
        total = hashlib.md5("\0".join(names).encode(), usedforsecurity=False)
        total.update(digest(list(self.bags.values()), covariates).encode())
        return total.hexdigest()

    def select(self, patients: Sequence[str], where: str) -> list[PatientBag]:
        """The bags of these patients, in their order.

        Raises DataError when a patient is not in the cohort, naming the first one.
        """
        for patient in patients:
            if patient not in self.bags:
                hint = "split the cohort again: these folds were made from another cohort"
                raise DataError(f"patient {patient!r} is not in the cohort", where, hint)
        return [self.bags[patient] for patient in patients]


def check_training_part(bags: Sequence[PatientBag], classes: Sequence[str], where: str) -> None:
    """Refuse a training part that no model can be fitted on.

    Raises DataError when there are fewer than two patients, no event, a subtype without a patient, a bag of the wrong
    width, an empty bag, a NaN feature or an infinite gene; the error names the patient or the class.
    """
    if len(bags) < 2 or not any(bag.event for bag in bags):
        what = f"{len(bags)} patients with {sum(bag.event for bag in bags)} events"
        raise DataError(what, where, "choose fewer folds, or a split stratified by event")
    absent = [name for position, name in enumerate(classes) if position not in {bag.subtype for bag in bags}]
    if absent:
        raise DataError(f"no patient of subtype {absent[0]!r}", where, "stratify the split, or merge rare subtypes")
    widths = {bag.patches.shape[-1] for bag in bags if bag.patches is not None}
    for bag in bags:
        if bag.patches is None and bag.genes is None:
            hint = "split with missing_modality drop, or exclude the patient"
            raise DataError("neither slides nor genes", f"{where}, patient {bag.patient_id}", hint)
        if bag.patches is not None:
            check_bag(bag.patches, min(widths), f"{where}, patient {bag.patient_id}")
        if bag.genes is not None and bool(bag.genes.isinf().any()):
            hint = "leave the cell empty where the gene was not measured"
            raise DataError("an infinite expression value", f"{where}, patient {bag.patient_id}", hint)


def entries(bags: Sequence[PatientBag]) -> FloatArray | None:
    """Entries under observation (n,) in months; None where all patients are observed from the origin."""
    months = np.array([bag.entry_months for bag in bags], dtype=np.float64)
    return months if months.any() else None


def covariate_table(bags: Sequence[PatientBag], inputs: Sequence[ClinicalInput]) -> Tensor:
    """(b, V) raw covariates in the order of `input_columns(inputs)`, NaN where missing or unseen in training.

    Raises DataError when the cohort has no such covariate, a value is infinite, or text in place of a number.
    """
    return torch.stack([covariate_row(bag.clinical, inputs, f"patient {bag.patient_id}") for bag in bags])


def digest(bags: Sequence[PatientBag], covariates: Sequence[str] = ()) -> str:
    """MD5 of all values that training reads from the bags, in their order: the data identity of a checkpoint.

    covariates  names of those that the model reads; other covariates, slide quality and tile coordinates do not count
    """
    total = hashlib.md5(usedforsecurity=False)
    for bag in bags:
        total.update(f"{bag.patient_id}\0{bag.time_months!r}\0{bag.event}\0{bag.subtype}\0".encode())
        if bag.entry_months:  # the digest of a cohort without late entry does not change
            total.update(f"entry {bag.entry_months!r}\0".encode())
        if bag.competing is not None:
            total.update(f"competing {bag.competing}\0".encode())
        for values in (bag.patches, bag.genes):
            if values is not None:
                total.update(f"{tuple(values.shape)}".encode())
                total.update(values.contiguous().numpy().tobytes())
    texts = [name for name in covariates if any(name in bag.categories for bag in bags)]
    numbers = [name for name in covariates if name not in texts]
    if numbers:
        total.update(covariate_table(bags, numbers).numpy().tobytes())
    for name in texts:
        total.update("\0".join([name, *(repr(bag.categories.get(name)) for bag in bags)]).encode())
    return total.hexdigest()
