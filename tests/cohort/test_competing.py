"""Competing events in the clinical table: by a value of the event column, or by a column of their own."""

import pandas as pd
import pytest
from pydantic import ValidationError

from mcti.cohort import competing, tables
from mcti.cohort.raw_tables import RawTable
from mcti.errors import DataError, UsageError
from mcti.params import IngestParams
from mcti.steps.ingest import ingest
from tests.cohort.layout_files import write_files


def table(**columns):
    count = len(next(iter(columns.values())))
    return RawTable(pd.DataFrame(columns), "f", list(range(2, 2 + count)), originals={"competing": "other_death"})


def read(**columns):
    return {name: cells.fillna(-1).tolist() for name, cells in competing.outcome(table(**columns), {}).items()}


def test_a_value_that_means_2_is_a_competing_event_and_no_event():
    columns = competing.outcome(table(event=["0", "1", "Other", ""]), {"other": 2})
    assert columns["event"].fillna(-1).tolist() == [0, 1, 0, -1]
    assert columns["competing"].fillna(0).tolist() == [0, 0, 1, 0]


def test_a_column_of_competing_events_completes_an_empty_event():
    assert read(event=["0", "1", "", "0", ""], competing=["0", "", "1", "1", ""]) == {
        "event": [0, 1, 0, 0, -1], "competing": [0, 0, 1, 1, 0]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("event", "cell", "message"),
    [
        ("1", "1", "other_death is 1, and the event was observed, too in f, row 2, column other_death: the first of"),
        ("0", "", "other_death is missing in f, row 2, column other_death: write 1"),
        ("0", "2", "other_death is '2', neither 0 nor 1 in f, row 2"),
    ],
)
def test_a_contradictory_or_missing_cell_is_refused(event, cell, message):
    with pytest.raises(DataError, match=message):
        read(event=[event], competing=[cell])


def test_two_statements_of_competing_events_are_refused():
    with pytest.raises(UsageError, match=r"stated twice in ingest\.event_values and f"):
        competing.outcome(table(event=["0"], competing=["1"]), {"2": 2})


CLINICAL = """patient_id,site,age,is_female,subtype,OS,OS_months,DSS,DSS_months,other
a,x,50,1,k,1,3,0,3,1
b,x,60,0,k,1,4,1,4,0
c,x,70,1,k,0,9,0,9,0
"""
OS = {"time_months": "OS_months", "event": "OS"}
DSS = {"time_months": "DSS_months", "event": "DSS", "competing": "other"}


def test_each_end_point_has_its_own_column_of_competing_events(tmp_path):
    write_files(tmp_path, {"c.csv": CLINICAL, "g.csv": "patient_id,G\na,1\nb,2\nc,3\n"})
    for endpoint, events in {"OS": (2, None), "DSS": (1, 1)}.items():
        params = IngestParams(endpoint=endpoint, endpoints={"OS": OS, "DSS": DSS})
        result = ingest(tmp_path / "c.csv", tmp_path / "g.csv", None, params, tmp_path / endpoint)
        assert (result.events, result.competing_events) == events
        assert tables.covariates(tables.read_patients(tmp_path / endpoint)) == []


def test_a_column_that_belongs_to_no_end_point_is_refused(tmp_path):
    text = CLINICAL.replace("other", "competing")
    write_files(tmp_path, {"c.csv": text, "g.csv": "patient_id,G\na,1\nb,2\nc,3\n"})
    params = IngestParams(endpoint="OS", endpoints={"OS": OS})
    with pytest.raises(DataError, match=r"column 'competing' belongs to no end point .* in .*c\.csv: add it"):
        ingest(tmp_path / "c.csv", tmp_path / "g.csv", None, params, tmp_path / "out")
    with pytest.raises(ValidationError, match="endpoints names this column"):
        IngestParams(endpoint="OS", endpoints={"OS": OS}, columns={"competing": "other"})


def test_flags_and_counts_of_a_cohort():
    with_some = pd.DataFrame({"event": [0, 1, 0], "competing": [1, 0, 0]})
    assert competing.flags(with_some).tolist() == [True, False, False]
    assert competing.counts(with_some) == {"competing_events": 1}
    without = with_some.drop(columns="competing")
    assert (competing.flags(without).any(), competing.counts(without)) == (False, {})
