"""The comparison of both cohorts before an external validation; the refusals are in test_step.py."""

import pandas as pd
import pytest

from mcti.steps.test import comparability


@pytest.mark.parametrize(
    ("development", "entries", "verdict"),
    [
        (7, [0.0, 3.0, 5.0], "both count patients from their entry"),
        (7, None, "this cohort: every patient counts from the origin; development: from the entry (entry_months)"),
        (0, [0.0, 3.0, 5.0], "development: every patient counts from the origin; this cohort: from the entry"),
    ],
)
def test_the_verdict_names_the_cohort_without_late_entry(development, entries, verdict):
    patients = pd.DataFrame({"time_months": [9.0, 8.0, 7.0]})
    if entries is not None:
        patients["entry_months"] = entries
    (item,) = comparability.late_entry(development, patients)
    assert item.verdict.startswith(verdict)
    assert (item.development, item.validation) == (f"{development} patients", f"{2 if entries else 0} patients")


def test_without_late_entry_in_both_cohorts_there_is_no_row():
    patients = pd.DataFrame({"time_months": [9.0, 8.0], "entry_months": [0.0, 0.0]})
    assert comparability.late_entry(0, patients) == []
    assert comparability.late_entry(0, patients.drop(columns="entry_months")) == []
