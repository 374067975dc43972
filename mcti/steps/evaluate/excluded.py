"""The patients of the clinical table who were not evaluated, from the records of ingest, split and folds."""

from collections.abc import Mapping, Sequence

from mcti import redaction, storage
from mcti.cohort import folds as cohort_folds
from mcti.cohort.assembly import PATIENT_REASONS
from mcti.cohort.folds import Folds
from mcti.cohort.tables import CohortInfo, ExcludedPatient
from mcti.evaluation.flow import EVALUATE, INGEST, SPLIT
from mcti.storage import Location

IN_NO_FOLD = "in no fold"
NEVER_TESTED = "in training parts only, tested in no fold"


def read(info: CohortInfo, patients: Sequence[str], folds: Location, split: Folds) -> list[ExcludedPatient]:
    """Every excluded patient with step and reason; `patients` are the ids of the cohort table.

    Reads the record of `mcti split` next to the folds (folds.json). Samples and rows of other tables that ingest
    excluded are not patients of the clinical table and are not listed.
    """
    at_split = _excluded_at_split(folds)
    in_folds = set(split.frame["patient_id"].astype(str))
    tested = {name for number in split.numbers for name in split.test_patients(number)}
    removed = [(row.patient_id, INGEST, row.reason) for row in info.attrition if row.reason in PATIENT_REASONS]
    removed += [(name, SPLIT, at_split.get(name, IN_NO_FOLD)) for name in patients if name not in in_folds]
    removed += [(name, EVALUATE, NEVER_TESTED) for name in patients if name in in_folds - tested]
    redaction.register_ids(name for name, _, _ in removed)
    return [ExcludedPatient(patient_id=name, step=step, reason=reason) for name, step, reason in removed]


def _excluded_at_split(folds: Location) -> dict[str, str]:
    """{patient: reason} of the record next to the folds; empty without one."""
    path = cohort_folds.description_path(folds)
    if not storage.exists(path):
        return {}
    record: Mapping[str, str] = storage.read_json(path).get("excluded", {})
    return {str(name): str(reason) for name, reason in record.items()}
