"""Clinical tables of users: substitutes for missing columns, GDC times, covariates."""

import pandas as pd
import pytest

from mcti.errors import DataError
from mcti.project import clinical
from mcti.project.clinical import Answers
from mcti.project.foreign_tables import ForeignTable

TABLE = pd.DataFrame(
    {
        "patient_id": [f"P{n}" for n in range(10)], "time": [str(10.5 * n + 40) for n in range(10)],
        "event": ["0", "1"] * 5, "size": [str(n * 0.5) for n in range(10)], "row": [str(n) for n in range(10)],
        "PFI.time": ["3"] * 10, "note": ["free text"] * 10,
    }
)  # fmt: skip


def propose(table, **answers):
    return clinical.propose(ForeignTable(table, "t.csv", ()), Answers(**answers))


def test_missing_columns_have_stated_substitutes():
    proposal = propose(TABLE)
    assert set(proposal.table["site"]) == {"unknown"}
    assert set(proposal.table["subtype"]) == {"all"}
    assert set(proposal.table["is_female"]) == {""}
    assert len(proposal.changes) == 3
    assert proposal.read_by_network == ()


def test_covariates_are_measurements_and_no_outcomes_or_running_numbers():
    assert propose(TABLE).covariates == ("size",)
    stated = propose(TABLE, covariates=("size", "row"))
    assert (stated.covariates, stated.read_by_network) == (("size", "row"), ("size", "row"))
    with pytest.raises(DataError, match=r"'sise' of --covariate is missing.*did you mean size"):
        propose(TABLE, covariates=("sise",))


def test_ambiguous_sex_is_a_question_and_not_read():
    proposal = propose(TABLE.assign(sex=["1", "2"] * 5))
    assert "which value is female is not known" in proposal.questions[0]
    assert set(proposal.table["is_female"]) == {""}


def test_times_of_deaths_and_visits_are_joined_and_ages_in_days_are_years():
    table = TABLE.drop(columns=["time", "PFI.time"]).assign(
        days_to_death=["100", ""] * 5, days_to_last_follow_up=["", "2000"] * 5, age=["18262.5"] * 10
    )
    proposal = propose(table)
    assert proposal.table["follow_up_days"].tolist() == ["100", "2000"] * 5
    assert proposal.unit.value == "days"
    assert set(proposal.table["age"].astype(float)) == {50.0}


def test_a_stated_column_that_is_missing_is_an_error():
    with pytest.raises(DataError, match=r"column 'tme' of --time is missing.*did you mean time"):
        propose(TABLE, columns={"time_months": "tme"})


def test_an_entry_under_observation_is_a_question_and_no_covariate():
    proposal = propose(TABLE.assign(entry_months=["0", "2.5"] * 5))
    assert proposal.covariates == ("size",)
    assert any("5 of 10 patients after the origin" in question for question in proposal.questions)
