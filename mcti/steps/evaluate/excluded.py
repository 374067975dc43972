"""Who of the clinical table was not evaluated: read from what ingest and split wrote, and from the folds."""

from collections.abc import Sequence
from typing import Any

from mcti import redaction, storage
from mcti.cohort import folds as cohort_folds
from mcti.cohort.assembly import PATIENT_REASONS
from mcti.cohort.folds import Folds
from mcti.cohort.tables import CohortInfo, ExcludedPatient
from mcti.evaluation.flow import EVALUATE, INGEST, SPLIT
from mcti.storage import Location

IN_NO_FOLD = "in no fold"
TESTED_IN_NO_FOLD = "in training parts alone, tested in no fold"


def read(info: CohortInfo, patients: Sequence[str], folds: Location, split: Folds) -> list[ExcludedPatient]:
    """Every excluded patient with step and reason; `patients` are the ids of the cohort's table.

    Reads the description beside the folds (folds.json), where `mcti split` wrote whom it left out and why. Samples and
    rows of other tables that ingest left out are no patients of the clinical table and are not listed.
    """
    left = _left_at_split(folds)
    in_folds = set(split.frame["patient_id"].astype(str))
    tested = {name for number in split.numbers for name in split.test_patients(number)}
    ingest = [(one.patient_id, INGEST, one.reason) for one in info.attrition if one.reason in PATIENT_REASONS]
    outside = [(name, SPLIT, left.get(name, IN_NO_FOLD)) for name in patients if name not in in_folds]
    untested = [(name, EVALUATE, TESTED_IN_NO_FOLD) for name in patients if name in in_folds - tested]
    found = [*ingest, *outside, *untested]
    redaction.register_ids(name for name, _, _ in found)
    return [ExcludedPatient(patient_id=name, step=step, reason=reason) for name, step, reason in found]


def _left_at_split(folds: Location) -> dict[str, str]:
    """{patient: reason} of the description beside the folds; empty where there is none."""
    where = cohort_folds.description_path(folds)
    if not storage.exists(where):
        return {}
    written: dict[str, Any] = storage.read_json(where).get("excluded", {})
    return {str(name): str(reason) for name, reason in written.items()}
