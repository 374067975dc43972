"""Text cells as ids, numbers, flags, times and events."""

import pandas as pd
import pytest

from mcti.cohort import labels
from mcti.cohort.raw_tables import RawTable
from mcti.errors import DataError, UsageError


def table(*cells):
    return RawTable(pd.DataFrame({"x": list(cells)}), "f", list(range(2, 2 + len(cells))))


def test_times_are_converted_to_months():
    assert labels.times(table("365.25", ""), "x", "days").fillna(-1).tolist() == [12.0, -1.0]
    with pytest.raises(DataError, match=r"time is -1, which is negative in f, row 2"):
        labels.times(table("-1"), "x", "months")


def test_flags_and_events_are_zero_one_or_missing():
    assert labels.flags(table("1", "0.0", "NA"), "x", "hint").fillna(-1).tolist() == [1, 0, -1]
    assert labels.events(table("Dead", "0"), "x", {"dead": 1}).tolist() == [1, 0]
    with pytest.raises(DataError, match="'Dead', neither 0 nor 1"):
        labels.events(table("Dead"), "x", {})
    with pytest.raises(UsageError, match=r"mapped to 3 .*2 \(a competing event\)"):
        labels.events(table("Dead"), "x", {"dead": 3})


def test_a_third_event_value_is_refused_with_counts_and_its_three_meanings():
    cells = ("0", "1", "2", "2", " Other cause", "0", "")
    with pytest.raises(DataError, match=r"'2', neither 0 nor 1") as refused:
        labels.events(table(*cells), "x", {"other cause": 0})
    message = str(refused.value)
    assert "4 values (0: 2, 1: 1, 2: 2, other cause: 1)" in message
    assert "not the absolute risk" in message
    assert "composite endpoint" in message
    assert "2 states it" in message
    stated = labels.events(table(*cells), "x", {"2": 0, "other cause": 1})
    assert stated.fillna(-1).tolist() == [0, 1, 0, 0, 1, 0, -1]
    competing = labels.events(table(*cells), "x", {"2": 2, "other cause": 2})
    assert competing.fillna(-1).tolist() == [0, 1, 2, 2, 2, 0, -1]


def test_two_event_values_have_no_hint_on_competing_events():
    assert labels.competing_hint(table("0", "2", "", "0").frame["x"]) == ""
    assert "9 values (0: 1, 1: 1, 2: 1, 3: 1, 4: 1, 5: 1, ...)" in labels.competing_hint(table(*"012345678").frame["x"])


def test_masked_ages_are_mapped():
    assert labels.ages(table("> 89", "50"), "x", {">89": 90}).tolist() == [90.0, 50.0]


def test_a_covariate_is_numeric_only_if_every_cell_is_a_number():
    assert labels.covariate(table("1", "2.5"), "x").tolist() == [1.0, 2.5]
    assert labels.covariate(table("1", "low "), "x").tolist() == ["1", "low"]


def test_invalid_duplicated_and_misspelled_ids_are_refused():
    address = "row {}".format
    labels.check_ids(["P-1", "P-2"], address)
    for text, message in (("", "is missing"), ("a ", "space"), ("7.0", "decimals"), ("a/b", "not well formed")):
        with pytest.raises(DataError, match=message):
            labels.check_ids([text], address)
    with pytest.raises(DataError, match=r"duplicate patient_id 'a' in row 1; the first: row 0"):
        labels.check_unique(["a", "a"], address)
    with pytest.raises(DataError, match="'A' is written 'a' in clinical"):
        labels.check_same_spelling(["A"], ["a"], address, "clinical")


STAGES = ("I", "II", "III")


def test_levels_are_text_also_where_they_are_numbers_and_cells_are_replaced():
    assert labels.levels(table("1", " 2 ", "NA"), "x", {}).tolist() == ["1", "2", None]
    cells = {"Stage IIA": "II", "Stage X": None, "NA": "III"}
    assert labels.levels(table("Stage IIA", "I", "Stage X", "NA", ""), "x", cells, STAGES).tolist() == [
        "II", "I", None, "III", None,
    ]  # fmt: skip


def test_a_cell_outside_an_ordered_scale_is_refused_with_its_address():
    with pytest.raises(DataError, match=r"x is 'IV', not one of I, II, III in f, row 3, column x: map it"):
        labels.levels(table("I", "IV"), "x", {}, STAGES)
    assert labels.levels(table("I", "IV"), "x", {}).tolist() == ["I", "IV"]
