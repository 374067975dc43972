"""The flow of the patients: who is in the source tables, who was excluded at which step and why, who was evaluated."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from mcti.cohort.tables import ExcludedPatient

INGEST, SPLIT, EVALUATE = "ingest", "split", "evaluate"
STEPS = (INGEST, SPLIT, EVALUATE)
"""The steps at which a patient can be excluded, in their order. `validate` excludes nobody: it passes or stops."""


def counts(excluded: Sequence[ExcludedPatient]) -> dict[str, dict[str, int]]:
    """{step: {reason: patients}} in the order of the steps, reasons sorted; steps without an exclusion are left out."""
    found = Counter((one.step, one.reason) for one in excluded)
    return {
        step: {reason: count for (at, reason), count in sorted(found.items()) if at == step}
        for step in STEPS
        if any(at == step for at, _ in found)
    }


def table(excluded: Sequence[ExcludedPatient]) -> pd.DataFrame:
    """patient_id, step, reason: one row an excluded patient, sorted by step and patient."""
    ordered = sorted(excluded, key=lambda one: (STEPS.index(one.step), one.patient_id))
    return pd.DataFrame([vars(one) for one in ordered], columns=["patient_id", "step", "reason"])
