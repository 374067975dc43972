"""The column of entries that `mcti init` proposes, in the unit of the follow-up."""

import numpy as np
import pandas as pd
import pytest

from mcti.project import clinical, foreign_tables
from mcti.project.clinical import Answers
from tests.project.cohorts import cohort

ENTRY = np.arange(80) % 2 * 1.0  # months; every follow-up is longer


def proposal(tmp_path, answers=None, **columns):
    table, _, _ = cohort()
    table.assign(**columns).to_csv(tmp_path / "clinical.csv", index=False)
    return clinical.propose(foreign_tables.read(str(tmp_path / "clinical.csv")), answers or Answers())


def test_entries_in_the_unit_of_the_times_are_used_as_they_are(tmp_path):
    read = proposal(tmp_path, months_to_sequencing=ENTRY)
    assert read.columns["entry_months"] == "months_to_sequencing"
    assert "months_to_sequencing" not in read.covariates
    (question,) = [text for text in read.questions if "entry" in text]
    assert "40 of 80 patients after the origin, in months" in question
    assert "--entry" in question


def test_entries_in_another_unit_are_converted(tmp_path):
    read = proposal(tmp_path, DAYS_TO_SEQUENCING=ENTRY * 30.4375)
    source = read.columns.get("entry_months", "entry_months")  # the new column has the canonical name
    np.testing.assert_allclose(pd.to_numeric(read.table[source]), ENTRY, atol=1e-4)
    assert any("DAYS_TO_SEQUENCING in months (it is in days)" in text for text in read.changes)
    assert not {"DAYS_TO_SEQUENCING", source} & set(read.covariates)


def test_a_column_after_the_follow_up_is_no_entry_but_stays_a_warning(tmp_path):
    table, _, _ = cohort()
    read = proposal(tmp_path, days_to_enrolment=table["time_months"] * 30.4375 + 300)
    assert "entry_months" not in read.columns
    assert any("is not used" in text for text in read.questions)


def test_of_two_columns_none_is_chosen_until_the_user_names_one(tmp_path):
    two = {"months_to_sequencing": ENTRY, "months_to_enrolment": ENTRY}
    assert "entry_months" not in proposal(tmp_path, **two).columns
    named = proposal(tmp_path, Answers(columns={"entry_months": "months_to_enrolment"}), **two)
    assert named.columns["entry_months"] == "months_to_enrolment"


@pytest.mark.parametrize("name", ["time_months", "registration_number"])
def test_other_columns_are_no_entries(tmp_path, name):
    table, _, _ = cohort()
    assert "entry_months" not in proposal(tmp_path, **{name: table["time_months"]}).columns
