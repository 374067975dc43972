"""Patient flow: how many patients were excluded at which step and for which reason, and how many were evaluated."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from mcti.cohort.tables import ExcludedPatient

INGEST, SPLIT, EVALUATE = "ingest", "split", "evaluate"
STEPS = (INGEST, SPLIT, EVALUATE)
"""The steps at which a patient can be excluded, in order. `validate` excludes no patient: it passes or stops."""


def counts(excluded: Sequence[ExcludedPatient]) -> dict[str, dict[str, int]]:
    """{step: {reason: patients}} in the order of the steps, reasons sorted; only steps with an exclusion."""
    by_step_and_reason = Counter((patient.step, patient.reason) for patient in excluded)
    return {
        step: {reason: count for (at, reason), count in sorted(by_step_and_reason.items()) if at == step}
        for step in STEPS
        if any(at == step for at, _ in by_step_and_reason)
    }


def table(excluded: Sequence[ExcludedPatient]) -> pd.DataFrame:
    """Table patient_id, step, reason: one row per excluded patient, sorted by step and patient."""
    ordered = sorted(excluded, key=lambda patient: (STEPS.index(patient.step), patient.patient_id))
    rows = [(patient.patient_id, patient.step, patient.reason) for patient in ordered]
    return pd.DataFrame(rows, columns=["patient_id", "step", "reason"])
