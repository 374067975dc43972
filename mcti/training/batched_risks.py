"""Risks of many patients by one model, in padded batches: for scores and references, where the last digit is not used.

The predictions of a model are computed one patient at a time (mcti/model/trained.py), so that their bits do not depend
on other patients. A batch takes a quarter of the time and agrees with them to the rounding of float32.
"""

import dataclasses
import math
import sys
from collections.abc import Iterator, Sequence

import torch

from mcti.dataset.bags import PatientBag
from mcti.dataset.batches import collate
from mcti.errors import DataError
from mcti.model.trained import TrainedModel, select_modalities, single_thread

_PATIENTS, _ROWS = 32, 2**15
"""Largest number of patients, and of padded patches, in one batch."""


@single_thread()
def batched_risks(model: TrainedModel, bags: Sequence[PatientBag]) -> list[float]:
    """Risk of each patient (no unit, higher is worse), in the order of `bags`, from all of the patient's patches.

    A function of the model and of the whole list: with other patients in the list the last digit may differ.

    Raises DataError when a patient does not fit the model, as `TrainedModel.predict`, naming the patient
    """
    risks = [math.nan] * len(bags)
    for rows in _batches([1 if bag.patches is None else len(bag.patches) for bag in bags]):
        for row, risk in zip(rows, _risks(model, [_selected(model, bags[row]) for row in rows]), strict=True):
            risks[row] = risk
    return risks


def _risks(model: TrainedModel, bags: Sequence[PatientBag]) -> list[float]:
    batch = collate(bags, model.fitted, sys.maxsize, (0,), model.config.clinical_inputs)
    flags = {}
    if model.config.missing:
        flags = {"slides_present": batch.slides_present, "genes_present": batch.genes_present}
    with torch.inference_mode():
        output = model.net(batch.patches, batch.mask, batch.genes, covariates=batch.covariates, **flags)
    values: list[float] = output.risk.tolist()
    return values


def _selected(model: TrainedModel, bag: PatientBag) -> PatientBag:
    """The patient with the modalities that the model reads."""
    try:
        patches, genes = select_modalities(model.config, bag.patches, bag.genes)
    except DataError as error:
        raise error.with_patient(bag.patient_id) from error
    return dataclasses.replace(bag, patches=patches, genes=genes)


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Positions of the patients of each batch, sorted by length, which keeps the padding small."""
    rows: list[int] = []
    for position in sorted(range(len(lengths)), key=lambda row: (lengths[row], row)):
        if rows and (len(rows) == _PATIENTS or (len(rows) + 1) * lengths[position] > _ROWS):
            yield rows
            rows = []
        rows.append(position)
    if rows:
        yield rows
