"""Cells of clinical tables that `ingest` refuses or misreads. The expected values were written by the author."""

import pandas as pd
import pytest

from mcti.errors import DataError
from mcti.project import clinical, clinical_cells
from mcti.project.clinical import Answers
from mcti.project.foreign_tables import ForeignTable


def table(**columns):
    base = {
        "patient_id": ["P1", "P2", "P3", "P4"],
        "time_days": ["30", "900", "700", "45"],
        "event": ["0", "1", "1", "0"],
    }
    return pd.DataFrame({name: cells for name, cells in (base | columns).items() if cells is not None})


def propose(**columns):
    return clinical.propose(ForeignTable(table(**columns), "t.csv", ()), Answers())


def test_unknown_outcomes_are_missing_and_counted():
    proposal = propose(event=["Dead", "Unknown", "Alive", "?"], time_days=["30", "unbekannt", "700", "45"])
    assert proposal.table["event"].tolist() == ["Dead", "", "Alive", ""]
    assert proposal.table["time_days"].tolist() == ["30", "", "700", "45"]
    assert {"event: 2 unknown values as missing", "time_days: 1 unknown values as missing"} <= set(proposal.changes)
    assert proposal.event_text == "alive = censored (1), dead = observed (1)"


@pytest.mark.parametrize("cells", [["30", "1.900", "2.700", "45"], ["30", "1,900", "12,700", "45"]])
def test_separators_of_thousands_in_days_are_an_error(cells):
    with pytest.raises(DataError, match=r"'1.900' is ambiguous in t.csv, patient P2, column time_days: write 1900"):
        propose(time_days=cells)


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("time_days", ["30.0", "1900.5", "2700", "45"]),
        ("time_days", ["0.125", "1.900", "2.700", "45"]),
        ("survival_years", ["3.279", "1.900", "2.700", "4.125"]),
    ],
)
def test_decimals_are_no_separators_of_thousands(name, cells):
    proposal = propose(**{"time_days": None, name: cells})
    assert proposal.table[name].tolist() == cells


def test_masked_ages_are_numbers_and_a_question():
    proposal = propose(age=["51", ">89", "90+", ">= 85"])
    assert dict(proposal.masked_ages) == {">89": 90.0, "90+": 90.0, ">= 85": 85.0}
    assert any("masked ages are taken as >89 = 90" in question for question in proposal.questions)


def test_ages_in_days_may_be_missing():
    assert propose(age=["18262.5", "NA", "", "21915"]).table["age"].tolist() == ["50.00", "NA", "", "60.00"]


def test_sample_barcodes_are_one_row_per_patient():
    samples = ["TCGA-AA-0001-01", "TCGA-AA-0002-01", "TCGA-AA-0002-11", "TCGA-AA-0003-01"]
    proposal = propose(patient_id=None, sample=samples)
    assert proposal.ids == ("TCGA-AA-0001", "TCGA-AA-0002", "TCGA-AA-0003")
    assert proposal.table["time_days"].tolist() == ["30", "900", "45"]
    mixed = table(patient_id=["TCGA-AA-0001-01", "P2", "P3", "P4"])
    assert clinical_cells.patients_of_samples(mixed, "patient_id")[0] is mixed


def test_a_table_without_events_is_an_error():
    with pytest.raises(DataError, match=r"no patient has an event: 0 = censored \(4\) in t.csv, column event"):
        propose(event=["0"] * 4)
