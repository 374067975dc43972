"""Several end points of one clinical table: columns, one unit, one coding."""

import pandas as pd
import pytest

from mcti.errors import DataError
from mcti.project import coding, endpoints
from mcti.project.endpoints import Outcome

COLUMNS = ["id", "time", "event", "DFI_days", "DFI", "PFI.time", "PFI", "relapse_at", "relapsed"]


def text(**columns):
    return pd.DataFrame({name: [str(cell) for cell in cells] for name, cells in columns.items()})


def test_columns_are_found_by_name_and_general_names_are_those_of_overall_survival():
    outcomes = endpoints.find(COLUMNS, {"PFI": None, "OS": None, "DSS": Outcome("relapse_at", "relapsed")}, "t.csv")
    assert outcomes == {
        "PFI": Outcome("PFI.time", "PFI"), "OS": Outcome("time", "event"), "DSS": Outcome("relapse_at", "relapsed")
    }  # fmt: skip
    assert list(outcomes) == ["PFI", "OS", "DSS"]


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"OS": None, "DSS": None}, "no column has a known name of the times of DSS .*--endpoint DSS=TIMES,EVENTS"),
        ({"OS": None, "DSS": Outcome("relapse_et", "relapsed")}, "'relapse_et' of --endpoint DSS .*relapse_at"),
        ({"OS": Outcome("time", "dead")}, "'dead' of --endpoint OS is missing"),
    ],
)
def test_an_end_point_without_columns_is_one_error(stated, message):
    with pytest.raises(DataError, match=message):
        endpoints.find(COLUMNS, stated, "t.csv")


def test_times_in_another_unit_are_converted_to_that_of_the_first():
    table = text(OS_months=[12, 130], DFI_days=["60.875", ""], PFI_years=["x", "2"])
    outcomes = {name: Outcome(column, "e") for name, column in zip(("OS", "DFI", "PFI"), table.columns, strict=True)}
    frame, result, unit, changes = endpoints.one_unit(table, outcomes, None)
    assert unit.value == "months"
    assert frame["DFI_months"].tolist() == ["2.0000", ""]
    assert frame["PFI_months"].tolist() == ["x", "24.0000"]
    assert [one.time for one in result.values()] == ["OS_months", "DFI_months", "PFI_months"]
    assert len(changes) == 2


def test_columns_without_a_unit_have_that_of_their_common_distribution():
    """Short times to relapse alone would be months."""
    table = text(a=[3000, 2500], b=[100, 200])
    outcomes = {"OS": Outcome("a", "e"), "DFI": Outcome("b", "e")}
    frame, result, unit, _ = endpoints.one_unit(table, dict(reversed(outcomes.items())), None)
    assert (unit.value, result["DFI"].time) == ("days", "b")
    assert frame is table
    assert endpoints.one_unit(table, outcomes, "years")[2].value == "years"


def code(table, **columns):
    outcomes = {name: Outcome("t", column) for name, column in columns.items()}
    codings = {name: coding.event_coding(column, table[column]) for name, column in columns.items()}
    return endpoints.one_coding(table, outcomes, codings)


def test_words_of_two_columns_are_one_mapping():
    table = text(status=["dead", "alive"], relapse=["1", "0"], progress=["0:censored", "1:Progression"])
    frame, _, values, changes = code(table, OS="status", DFI="relapse", PFI="progress")
    assert values == {"alive": 0, "dead": 1, "0:censored": 0, "1:progression": 1}
    assert (frame is table, changes) == (True, ())


def test_a_competing_event_keeps_its_code_where_columns_are_converted():
    table = text(status=["1", "2", "2"], cause=["0", "1", "2"])
    outcomes = {"OS": Outcome("t", "status"), "DSS": Outcome("t", "cause")}
    codings = {"OS": coding.event_coding("status", table["status"])}
    codings["DSS"] = coding.EventCoding({"0": 0, "1": 1, "2": 2}, {"0": 1, "1": 1, "2": 1}, ())
    frame, result, values, changes = endpoints.one_coding(table, outcomes, codings)
    assert frame[result["OS"].event].tolist() == ["0", "1", "1"]
    assert frame[result["DSS"].event].tolist() == ["0", "1", "2"]
    assert values == {"0": 0, "1": 1, "2": 2}
    assert changes == ("OS_observed: status as 0, 1", "DSS_observed: cause as 0, 1, 2")


@pytest.mark.parametrize("other", [["1", "2", ""], ["2", "1", "NA"]])
def test_a_value_with_two_meanings_is_converted(other):
    table = text(status=other, relapse=["0", "1", "1"], censored=["0", "1", "0"])
    frame, result, values, changes = code(table, OS="status", DFI="relapse", PFI="censored")
    assert values == {}
    assert frame["OS_observed"].tolist() == [{"1": "0", "2": "1"}.get(cell, "") for cell in other]
    assert frame["PFI_observed"].tolist() == ["1", "0", "1"]
    assert result == {
        "OS": Outcome("t", "OS_observed"), "DFI": Outcome("t", "relapse"), "PFI": Outcome("t", "PFI_observed")
    }  # fmt: skip
    assert len(changes) == 2
