"""Who of the clinical table was not evaluated: read from what ingest and split wrote, and from the folds."""

from collections.abc import Sequence
from typing import Any

from mcti import redaction, storage
from mcti.cohort import folds as cohort_folds
from mcti.cohort.assembly import OF_PATIENTS
from mcti.cohort.folds import Folds
from mcti.cohort.tables import CohortInfo
from mcti.evaluation.flow import EVALUATE, INGEST, SPLIT, ExcludedPatient
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
    ingest = [(one.patient_id, INGEST, one.reason) for one in info.attrition if one.reason in OF_PATIENTS]
    outside = [(name, SPLIT, left.get(name, IN_NO_FOLD)) for name in patients if name not in in_folds]
    untested = [(name, EVALUATE, TESTED_IN_NO_FOLD) for name in patients if name in in_folds - tested]
    found = [*ingest, *outside, *untested]
    redaction.register_ids(name for name, _, _ in found)
    return [ExcludedPatient(name, step, reason) for name, step, reason in found]


def _left_at_split(folds: Location) -> dict[str, str]:
    """{patient: reason} of the description beside the folds; empty where there is none."""
    where = cohort_folds.describe(folds)
    if not storage.exists(where):
        return {}
    written: dict[str, Any] = storage.read_json(where).get("left", {})
    return {str(name): str(reason) for name, reason in written.items()}
