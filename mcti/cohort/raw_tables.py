"""Source tables as text: every cell with its position in the file, so that an error can quote the cell."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcti.errors import DataError, did_you_mean

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "not reported"}) | {
    f"[{word}]" for word in ("not available", "not applicable", "not evaluated", "unknown", "discrepancy", "completed")
}
"""Cells that mean "no value", case folded; the bracketed words are those of TCGA's clinical files."""

LONGEST_CELL = 10_000
"""Characters of the longest cell accepted as data; a longer one means that the quotes of the table are wrong."""


@dataclass(frozen=True)
class RawTable:
    """Cells as text.

    frame       index 0, 1, …; a missing cell is empty text
    where       name of the file for error messages
    rows        row of the file for each row of `frame`; the header of a CSV is row 1
    warnings    what was found while the file was read
    originals   column of `frame` -> its name in the file
    """

    frame: pd.DataFrame
    where: str
    rows: list[int]
    warnings: list[str] = field(default_factory=list)
    originals: dict[str, str] = field(default_factory=dict)

    def address(self, position: int, column: str = "") -> str:
        """Address of a cell for an error message: file, row, patient where known, column as the file names it."""
        parts = [self.where, f"row {self.rows[position]}"]
        if column != "patient_id" and "patient_id" in self.frame.columns:
            parts.append(f"patient {shorten(self.frame['patient_id'].iloc[position])}")
        return ", ".join([*parts, *([f"column {self.originals.get(column, column)}"] if column else [])])

    def require(self, *columns: str) -> None:
        """Check that the table has all `columns`.

        Raises DataError when one is missing, with the most similar name of the table.
        """
        for column in columns:
            if column not in self.frame.columns:
                hint = did_you_mean(column, self.frame.columns)
                raise DataError(f"column {column!r} is missing", self.where, hint)

    def replace_column(self, column: str, cells: "pd.Series[str]") -> "RawTable":
        """The same table with other cells in `column`."""
        frame = self.frame.assign(**{column: cells})
        return RawTable(frame, self.where, self.rows, self.warnings, self.originals)


@dataclass(frozen=True)
class Matrix:
    """Expression as read: `values` (rows, genes) float32; a missing value is NaN."""

    ids: list[str]
    genes: list[str]
    values: npt.NDArray[np.float32]
    where: str
    rows: list[int]
    warnings: list[str] = field(default_factory=list)


def as_matrix(table: RawTable, key: str) -> Matrix:
    """A table of text as numbers; the column `key` holds the ids.

    Raises DataError when a cell is not a number, with its row, column and value.
    """
    genes = [str(name) for name in table.frame.columns if name != key]
    lines = zip(table.rows, table.frame[genes].to_numpy().tolist(), strict=True)
    values = [parse_floats(cells, genes, f"{table.where}, row {row}") for row, cells in lines]
    return Matrix(table.frame[key].tolist(), genes, np.stack(values), table.where, table.rows, table.warnings)


def parse_floats(cells: list[str], columns: list[str], where: str) -> npt.NDArray[np.float32]:
    """The cells of one row as float32 (cells,); a missing value is NaN.

    Raises DataError when a cell is not a number, with its column and value.
    """
    try:
        return np.array(cells, dtype=np.float32)
    except ValueError:
        pairs = zip(cells, columns, strict=True)
        return np.array([_parse_float(cell, column, where) for cell, column in pairs], dtype=np.float32)


def _parse_float(cell: str, column: str, where: str) -> float:
    if is_missing(cell):
        return float("nan")
    try:
        return float(cell)
    except ValueError:
        hint = "write a decimal point" if "," in cell else "write a number, or leave the cell of a missing value empty"
        raise DataError(f"{shorten(cell)!r} is not a number", f"{where}, column {column}", hint) from None


def shorten(value: object, length: int = 60) -> str:
    """A value for an error message, cut to `length` characters."""
    text = str(value)
    return text if len(text) <= length else f"{text[:length]}… ({len(text)} characters)"


def is_missing(text: str) -> bool:
    """Whether a cell means "no value"."""
    return text.strip().casefold() in MISSING


def check_duplicate_columns(names: list[str], where: str) -> None:
    """Check that no column name occurs twice in a header.

    Raises DataError when one does, with both column numbers.
    """
    first: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        if name in first:
            what = f"column {shorten(name)!r} is duplicated: it is column {first[name]} and column {number}"
            raise DataError(what, where, "delete one of the two, or rename it")
        first[name] = number


def long_cell_error(cell: str, where: str) -> DataError:
    """The error for a cell longer than LONGEST_CELL."""
    return DataError(f"the cell {shorten(cell, 30)!r} is too long", where, "check the quotes of this row")


def no_rows_error(where: str) -> DataError:
    """The error for a table without rows."""
    return DataError("the table has a header and no rows", where, "add at least one row")


def key_position(header: list[str], key: str, where: str) -> int:
    """Index of the id column of an expression table.

    Raises DataError when the table has no such column.
    """
    if key in header:
        return header.index(key)
    hint = f"write one row per patient and one column per gene, first column {key}; transpose a table of genes in rows"
    similar = did_you_mean(key, header)
    raise DataError(f"column {key!r} is missing", where, similar if similar.startswith("did") else hint)
