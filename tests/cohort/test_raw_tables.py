"""Raw tables: addresses of cells, numbers, and the errors that quote a cell."""

import numpy as np
import pandas as pd
import pytest

from mcti.cohort import raw_tables
from mcti.cohort.raw_tables import RawTable
from mcti.errors import DataError

TABLE = RawTable(pd.DataFrame({"patient_id": ["P-1"], "event": ["x"]}), "c.csv", [7], [], {"event": "OS"})


def test_the_address_of_a_cell_has_file_row_patient_and_original_column():
    assert TABLE.address(0, "event") == "c.csv, row 7, patient P-1, column OS"
    assert TABLE.address(0, "patient_id") == "c.csv, row 7, column patient_id"


def test_a_missing_column_is_refused_with_the_most_similar_name():
    with pytest.raises(DataError, match=r"column 'events' is missing in c\.csv: did you mean event\?"):
        TABLE.require("patient_id", "events")


def test_numbers_are_parsed_and_missing_values_are_nan():
    np.testing.assert_array_equal(raw_tables.parse_floats(["1.5", "NA"], ["a", "b"], "f"), np.float32([1.5, np.nan]))
    with pytest.raises(DataError, match=r"'high' is not a number in f, column b"):
        raw_tables.parse_floats(["1", "high"], ["a", "b"], "f")


def test_a_long_value_is_shortened():
    assert raw_tables.shorten("a" * 100, 3) == "aaa… (100 characters)"
    assert raw_tables.shorten("abc", 3) == "abc"


@pytest.mark.parametrize("cell", ["", " NA ", "nan", "[Not Available]", "Not Reported"])
def test_words_for_missing_values(cell):
    assert raw_tables.is_missing(cell)


def test_a_duplicated_column_is_refused_with_both_numbers():
    with pytest.raises(DataError, match=r"'a' is duplicated: it is column 1 and column 3"):
        raw_tables.check_duplicate_columns(["a", "b", "a"], "f")


def test_an_expression_table_without_ids_is_refused():
    assert raw_tables.key_position(["G", "patient_id"], "patient_id", "f") == 1
    with pytest.raises(DataError, match="did you mean patient"):
        raw_tables.key_position(["patient", "G"], "patient_id", "f")


def test_a_text_table_becomes_a_matrix():
    table = RawTable(pd.DataFrame({"id": ["a", "b"], "G": ["1", "2.5"]}), "f", [2, 3])
    matrix = raw_tables.as_matrix(table, "id")
    assert (matrix.ids, matrix.genes, matrix.values.tolist()) == (["a", "b"], ["G"], [[1.0], [2.5]])
