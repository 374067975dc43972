"""Rows of a foreign text table: comment lines, row names, empty rows and columns of spreadsheets and of R."""

import csv
import io
from collections import Counter
from dataclasses import dataclass

import pandas as pd

from mcti.errors import DataError

ROW_NAMES = "row_names"
"""Name of the column of row names, which R and pandas write without one."""


@dataclass(frozen=True)
class _Row:
    number: int
    cells: list[str]


def read(text: str, delimiter: str, where: str) -> tuple[pd.DataFrame, list[str]]:
    """The cells of a table as text, and in what the file differs from a plain table.

    Raises DataError with the row of the file when the table cannot be parsed, or its rows do not fit to the header.
    """
    text, changes = _without_comments(text, delimiter)
    rows = _rows(text, delimiter, where)
    if not rows:
        raise DataError("the file is empty", where, "write a table with a header and rows")
    names = _without_empty_end([name.strip() for name in rows[0].cells])
    if any(len(row.cells) > len(names) for row in (rows[0], *_fitting(rows[1:], names))):
        changes.append("empty cells after the last column")
    rows = rows[1:]
    # R's write.table has no name above the row names. With commas one more cell is an unquoted decimal comma.
    if delimiter == "\t" and rows and all(len(row.cells) == len(names) + 1 for row in rows):
        names = ["", *names]
    cells = [_fitted(row, names, where) for row in rows]
    frame, more = _named(pd.DataFrame(cells, columns=range(len(names)), dtype=str), names, where)
    return frame, [*changes, *more]


def _without_comments(text: str, delimiter: str) -> tuple[str, list[str]]:
    """The text without its first lines that start with `#`; they become empty, so that the rows keep their number.

    One such line with as many cells as the next line is a header.
    """
    lines = text.splitlines(keepends=True)
    count = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    if not count:
        return text, []
    if count == 1 and len(lines) > 1 and lines[0].count(delimiter) == lines[1].count(delimiter) > 0:
        return text[1:], ["# before the header"]
    return "".join(["\n"] * count + lines[count:]), [f"{count} comment lines"]


def _rows(text: str, delimiter: str, where: str) -> list[_Row]:
    csv.field_size_limit(1 << 30)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        return [_Row(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        what = f"the table cannot be parsed ({error})"
        raise DataError(what, f"{where}, row {reader.line_num}", "check the quotes") from error


def _without_empty_end(cells: list[str]) -> list[str]:
    end = len(cells)
    while end > 1 and not cells[end - 1].strip():
        end -= 1
    return cells[:end]


def _fitting(rows: list[_Row], names: list[str]) -> list[_Row]:
    """The rows without cells after the last column, which must be empty."""
    return [row for row in rows if not any(cell.strip() for cell in row.cells[len(names) :])]


def _fitted(row: _Row, names: list[str], where: str) -> list[str]:
    """The cells of a row; empty cells after the last column are left out."""
    if len(row.cells) >= len(names) and not any(cell.strip() for cell in row.cells[len(names) :]):
        return row.cells[: len(names)]
    what, hint = (
        f"{len(row.cells)} cells where the header has {len(names)}",
        "quote the cell that contains the delimiter",
    )
    if len(names) == 1:
        hint = "the first row must be the header: delete the lines above it"
    elif len(row.cells) > len(names) and all(row.cells[len(names) :]):
        hint += ", or name every column"
    raise DataError(what, f"{where}, row {row.number}", hint)


def _named(frame: pd.DataFrame, names: list[str], where: str) -> tuple[pd.DataFrame, list[str]]:
    """The table with its column names; columns without a name are row names, empty, or an error."""
    changes = []
    unnamed = [number for number, name in enumerate(names) if not name]
    empty = [number for number in unnamed if not frame[number].str.strip().astype(bool).any()]
    if empty:
        changes.append(f"{len(empty)} empty columns")
    if unnamed and unnamed[0] == 0 and 0 not in empty:
        is_index = frame[0].tolist() in ([str(n) for n in range(len(frame))], [str(n + 1) for n in range(len(frame))])
        changes.append("row numbers" if is_index else "row names without a header")
        empty = [*empty, 0] if is_index else empty
        names = [ROW_NAMES, *names[1:]]
    for number in unnamed:
        if not names[number] and number not in empty:
            raise DataError(f"column {number + 1} has no name", f"{where}, row 1", "name the column, or delete it")
    kept = [number for number in range(len(names)) if number not in empty]
    _check_unique([names[number] for number in kept], where)
    return frame[kept].set_axis([names[number] for number in kept], axis=1), changes


def _check_unique(names: list[str], where: str) -> None:
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"column {min(repeated)!r} is duplicated", where, "delete one of the two, or rename it")
