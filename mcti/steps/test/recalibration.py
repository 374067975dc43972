"""Recalibration of a model on a part of an external cohort; the other part is the evidence for the new model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mcti.cohort import left_truncation
from mcti.dataset.loading import CohortTables
from mcti.errors import DataError
from mcti.evaluation.predictions import Predictions
from mcti.model.trained import Recalibration
from mcti.redaction import hashed
from mcti.registry import recalibrated_ensemble
from mcti.registry.ensemble import Ensemble
from mcti.registry.recalibrated_ensemble import RecalibrationRecord
from mcti.steps.test.prediction import CohortPredictions, gene_vector
from mcti.training import ensemble_recalibration
from mcti.training.ensemble_recalibration import MemberCurves
from mcti.training.recalibration import SLOPE_EVENTS


@dataclass(frozen=True)
class CohortParts:
    """Patients of the fit, and those of the evidence; no patient belongs to both."""

    fit: tuple[str, ...]
    evidence: tuple[str, ...]


def assign_parts(patients: pd.DataFrame, share: float) -> CohortParts:
    """Divide the patients: `share` of those with and of those without the event are used for the fit.

    patients  columns patient_id and event. Which of them is determined by the hashes of their ids, so that the same
    patients are divided in the same way in every run.

    Raises DataError when one part has too few events.
    """
    chosen: list[str] = []
    for _, rows in patients.groupby("event"):
        ids = sorted((str(name) for name in rows["patient_id"]), key=lambda name: hashed(f"recalibration {name}"))
        chosen += ids[: round(share * len(ids))]
    fit = patients["patient_id"].isin(chosen)
    for part, name in ((patients[fit], "the recalibration"), (patients[~fit], "its evidence")):
        events = int((part["event"] == 1).sum())
        if events < SLOPE_EVENTS:
            what = f"{events} events for {name}, fewer than {SLOPE_EVENTS}"
            hint = "use a cohort with more events, or another test.recalibration_share"
            raise DataError(what, "the cohort", hint)
    return CohortParts(*(tuple(part["patient_id"].astype(str)) for part in (patients[fit], patients[~fit])))


def write(
    ensemble: Ensemble, folder: Path, tables: CohortTables, parts: CohortParts, cohort_md5: str, out: Path
) -> RecalibrationRecord:
    """Fit intercept and slope on `parts.fit` and write the recalibrated ensemble into `out`.

    folder  of the ensemble
    """
    rows = tables.patients.set_index("patient_id").loc[list(parts.fit)]
    time = torch.tensor(rows["time_months"].to_numpy(dtype=np.float64))
    event = torch.tensor(rows["event"].to_numpy() == 1)
    curves = _curves(ensemble, tables, parts.fit)
    names = ensemble.default_members or tuple(ensemble.members)
    entry = torch.from_numpy(left_truncation.entries(rows)) if left_truncation.has_entries(rows) else None
    intercept, slope = ensemble_recalibration.fit([curves[name] for name in names], time, event, entry)
    fitted = {
        name: Recalibration(intercept, slope, ensemble_recalibration.centre_of(member, time, event, entry))
        for name, member in curves.items()
    }
    record = RecalibrationRecord(
        parent=ensemble.digest,
        cohort=tables.cohort_identity["name"],
        cohort_md5=cohort_md5,
        patients=tuple(sorted({hashed(name) for name in parts.fit} | recalibrated_ensemble.recalibrated_on(folder))),
        events=int(event.sum()),
        intercept=intercept,
        slope=slope,
    )
    recalibrated_ensemble.write(folder, fitted, record, out)
    return record


def _curves(ensemble: Ensemble, tables: CohortTables, patients: Sequence[str]) -> dict[str, MemberCurves]:
    """The curves of every member before any recalibration."""
    survival: dict[str, list[Tensor]] = {name: [] for name in ensemble.members}
    for patient in patients:
        data = tables.load((patient,))
        bag = data.bags[patient]
        vector = gene_vector(ensemble, bag, data.genes)
        for name, member in ensemble.members.items():
            survival[name].append(member.output(bag.patches, vector, bag.clinical).survival.double())
    return {name: MemberCurves(ensemble.members[name], torch.cat(rows)) for name, rows in survival.items()}


def subset(predicted: CohortPredictions, patients: Sequence[str]) -> CohortPredictions:
    """The predictions of these patients alone, in their order."""
    position = {name: row for row, name in enumerate(predicted.patients)}
    rows = [position[name] for name in patients]
    subtypes = None if predicted.model.subtypes is None else predicted.model.subtypes.iloc[rows].reset_index(drop=True)
    model = Predictions(predicted.model.risk[rows], predicted.model.survival[rows], subtypes)
    return replace(
        predicted, patients=tuple(patients), model=model, member=predicted.member[rows], group=predicted.group[rows]
    )
