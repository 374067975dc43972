"""Foreign tables. Oracle: pandas, which wrote them."""

import pandas as pd
import pytest

from mcti.errors import DataError
from mcti.project import foreign_tables

TABLE = pd.DataFrame({"name": ["Müller", "b"], "size": [1.5, 20.25], "note": ["x, y", "z"]})


@pytest.mark.parametrize(
    ("form", "differences"),
    [
        ({}, ()),
        ({"encoding": "utf-8-sig", "lineterminator": "\r\n"}, ()),  # `ingest` reads both
        ({"sep": ";", "decimal": ","}, ("separated by semicolons", "decimal commas")),
        ({"sep": "\t"}, ("separated by tabs",)),
        ({"sep": "|", "encoding": "utf-16"}, ("UTF-16", "separated by vertical bars")),
        ({"encoding": "cp1252"}, ("Windows-1252",)),
    ],
)
def test_every_form_has_the_same_cells(tmp_path, form, differences):
    TABLE.to_csv(tmp_path / "t.csv", index=False, **form)
    table = foreign_tables.read(tmp_path / "t.csv")
    assert table.differences == differences
    assert table.frame["name"].tolist() == ["Müller", "b"]
    assert table.frame["size"].astype(float).tolist() == [1.5, 20.25]
    assert table.frame["note"].tolist() == ["x, y", "z"]


def test_parquet_is_read(tmp_path):
    TABLE.to_parquet(tmp_path / "t.parquet")
    assert foreign_tables.read(tmp_path / "t.parquet").frame["size"].tolist() == ["1.5", "20.25"]


def test_missing_values_of_the_gdc_and_spaces_are_removed(tmp_path):
    (tmp_path / "t.tsv").write_text("a\tb\n x \t'--\n")
    table = foreign_tables.read(tmp_path / "t.tsv")
    assert table.frame.to_dict("records") == [{"a": "x", "b": ""}]
    assert table.differences == ("separated by tabs", "spaces at the ends of cells", "'-- for missing values")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"a,b\n1,2,3\n", "3 cells where the header has 2 .*row 2"),
        (b"a,a\n1,2\n", "'a' is duplicated"),
        (b"a,b\n", "no rows"),
        (b'a,b\n"1,2\n', "cannot be parsed"),
        (b"\xd0\xcf\x11\xe0xls", "Excel"),
        (b"a,b\n\x81,2\n", "no text in UTF-8"),
    ],
)
def test_other_files_are_one_error(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        foreign_tables.read(tmp_path / "t.csv")


def test_a_folder_or_no_file_is_one_error(tmp_path):
    with pytest.raises(DataError, match="a folder"):
        foreign_tables.read(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        foreign_tables.read(tmp_path / "absent.csv")
