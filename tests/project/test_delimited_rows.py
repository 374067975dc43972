"""Tables of spreadsheets, R and pandas. Oracle: pandas, which wrote them, or the text of the test."""

import pandas as pd
import pytest

from mcti.errors import DataError
from mcti.project import delimited_rows, foreign_tables

PLAIN = [{"id": "P1", "age": "51"}, {"id": "P2", "age": "62"}]


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("id,age\nP1,51\nP2,62\n", []),
        ("id,age\n\nP1,51\n,\nP2,62\n,\n\n", []),
        ("id,age,,\nP1,51,,\nP2,62,,\n,,,\n", ["empty cells after the last column"]),
        ("id,age\nP1,51,\nP2,62,\n".replace(",\n", ",,\n"), ["empty cells after the last column"]),
        ("id,,age\nP1,,51\nP2,,62\n", ["1 empty columns"]),
        (",id,age\n0,P1,51\n1,P2,62\n", ["row numbers"]),
        ("#Id,Age\n#STRING,NUMBER\nid,age\nP1,51\nP2,62\n", ["2 comment lines"]),
        ("#id,age\nP1,51\nP2,62\n", ["# before the header"]),
    ],
)
def test_every_form_has_the_same_rows(text, changes):
    frame, differences = delimited_rows.read(text, ",", "t.csv")
    assert (frame.to_dict("records"), differences) == (PLAIN, changes)


@pytest.mark.parametrize("name", [None, ""])
def test_row_names_of_r_and_of_pandas_are_a_column(name):
    table = pd.DataFrame({"S1": [1.5, 2.0], "S2": [3.0, 4.0]}, index=["TP53", "MYC"])
    text = table.to_csv(sep="\t", index_label=False if name is None else name)
    frame, changes = delimited_rows.read(text, "\t", "t.csv")
    assert frame.columns.tolist() == ["row_names", "S1", "S2"]
    assert frame["row_names"].tolist() == ["TP53", "MYC"]
    assert changes == ["row names without a header"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Export of March\n\nid,age\nP1,51\n", "2 cells where the header has 1 in t.csv, row 3: the first row must"),
        ("id,age\n\nP1,51\nP2,62,x\n", "3 cells where the header has 2 in t.csv, row 4"),
        ("id,age,\nP1,51,x\nP2,62,\n", "3 cells where the header has 2 in t.csv, row 2"),
        ("id,,age\nP1,x,51\n", "column 2 has no name"),
        ('id,age\nP1,"51\n', "row 2"),
        ("id,age\nP1,51,5\nP2,62,5\n", "3 cells where the header has 2 in t.csv, row 2"),  # unquoted decimal commas
        ("id,age\nP1\n", "1 cells where the header has 2 in t.csv, row 2"),
    ],
)
def test_rows_that_do_not_fit_are_an_error_with_the_row_of_the_file(text, message):
    with pytest.raises(DataError, match=message):
        delimited_rows.read(text, ",", "t.csv")


@pytest.mark.parametrize(("ending", "compression"), [("gz", "gzip"), ("zip", "zip")])
def test_compressed_tables_of_any_form_are_read(tmp_path, ending, compression):
    path = tmp_path / f"t.csv.{ending}"
    pd.DataFrame(PLAIN).to_csv(path, sep="\t", index=False, encoding="utf-16", compression=compression)
    table = foreign_tables.read(path)
    assert table.frame.to_dict("records") == PLAIN
    assert table.differences == ("UTF-16", "separated by tabs")


def test_a_damaged_archive_is_one_error(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(b"\x1f\x8bdamaged")
    with pytest.raises(DataError, match="the archive cannot be unpacked"):
        foreign_tables.read(tmp_path / "t.csv.gz")
