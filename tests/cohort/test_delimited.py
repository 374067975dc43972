"""Delimited text: rows of the file, comments, delimiters and quotes."""

import io

import pytest

from mcti.cohort.delimited import DelimitedRows, Dialect
from mcti.errors import DataError


def read(text, dialect=Dialect()):  # noqa: B008  (frozen)
    rows = DelimitedRows(io.StringIO(text), "f", dialect)
    return rows.header(), [(rows.row, cells) for cells in rows]


def test_rows_are_numbered_as_in_the_file_with_comments_and_empty_lines():
    header, rows = read("#c\na\tb\n\n1\t2\n#c\n3\t4\n", Dialect("\t", "#"))
    assert header == ["a", "b"]
    assert rows == [(4, ["1", "2"]), (6, ["3", "4"])]


def test_a_column_without_a_name_is_read_only_if_the_dialect_allows_it():
    assert read(",a\n0,1\n", Dialect(unnamed_columns=True))[0] == ["", "a"]
    with pytest.raises(DataError, match="column 1 has no name in f, row 1"):
        read(",a\n0,1\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("a;b\n1;2\n", "separated by semicolons"),
        ("a,b\n1\n", "1 cells where the header has 2 in f, row 2"),
        ("a,b \n", "starts or ends with a space"),
        ('a,b\n"1,2\n', "cannot be parsed"),
    ],
)
def test_invalid_text_is_refused(text, message):
    with pytest.raises(DataError, match=message):
        read(text)
