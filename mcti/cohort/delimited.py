"""Rows of delimited text (CSV, TSV): header, delimiter, quotes and row lengths checked, with the row of each fault."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

from mcti.cohort.raw_tables import LONGEST_CELL, check_duplicate_columns, long_cell_error
from mcti.errors import DataError

_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars", ",": "commas"}


@dataclass(frozen=True)
class Dialect:
    """How a text table is written.

    comment             lines that start with it are skipped; empty: there are no comments
    unnamed_columns     a column may have no name (the index that pandas writes)
    """

    delimiter: str = ","
    comment: str = ""
    unnamed_columns: bool = False


class DelimitedRows:
    """The rows of a delimited text after its header, each with as many cells as the header.

    `row` is the row of the file that was read last. `header` is called once, before the iteration.
    """

    def __init__(self, stream: TextIO, where: str, dialect: Dialect) -> None:
        self.where, self.dialect, self.row = where, dialect, 0
        # The limit of the csv module would stop at a long cell before its column is known; _check_lengths names both.
        csv.field_size_limit(1 << 30)
        lines = stream if not dialect.comment else (line for line in stream if not self._is_comment(line))
        self._reader = csv.reader(lines, delimiter=dialect.delimiter, strict=True)
        self._comments = 0
        self._names: list[str] = []

    def header(self) -> list[str]:
        """The column names.

        Raises DataError when the file is empty, has another delimiter, or a name is missing, padded or duplicated.
        """
        names = next(self._cells(), None)
        if names is None:
            raise DataError("the file is empty", self.where, "write a table with a header and rows")
        self._check_delimiter(names)
        for number, name in enumerate(names, start=1):
            if not name.strip() and not self.dialect.unnamed_columns:
                where = f"{self.where}, row {self.row}"
                raise DataError(f"column {number} has no name", where, "name the column, or delete it")
            if name != name.strip():
                what = f"the column name {name!r} starts or ends with a space"
                raise DataError(what, self.where, "delete the space")
        check_duplicate_columns(names, self.where)
        self._names = names
        return names

    def __iter__(self) -> Iterator[list[str]]:
        for cells in self._cells():
            if len(cells) != len(self._names):
                what = f"{len(cells)} cells where the header has {len(self._names)}"
                hint = "quote the cell that contains the delimiter, and write decimals with a point"
                raise DataError(what, f"{self.where}, row {self.row}", hint)
            yield cells

    def _is_comment(self, line: str) -> bool:
        comment = line.startswith(self.dialect.comment)
        self._comments += comment
        return comment

    def _check_delimiter(self, names: list[str]) -> None:
        if len(names) > 1:
            return
        for separator, word in _SEPARATORS.items():
            if separator != self.dialect.delimiter and separator in names[0]:
                expected = _SEPARATORS[self.dialect.delimiter]
                hint = f"save it with {expected} between the cells and a decimal point in the numbers"
                raise DataError(f"the cells are separated by {word}", f"{self.where}, row {self.row}", hint)

    def _cells(self) -> Iterator[list[str]]:
        while True:
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                where = f"{self.where}, row {self._reader.line_num + self._comments}"
                raise DataError(f"the row cannot be parsed ({error})", where, "check the quotes of this row") from error
            self.row = self._reader.line_num + self._comments
            if any(cells):
                self._check_lengths(cells)
                yield cells

    def _check_lengths(self, cells: list[str]) -> None:
        index = next((i for i, cell in enumerate(cells) if len(cell) > LONGEST_CELL), None)
        if index is not None:
            column = f", column {self._names[index]}" if index < len(self._names) else ""
            raise long_cell_error(cells[index], f"{self.where}, row {self.row}{column}")
