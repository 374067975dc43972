"""Tables of other people as text with an address for every cell: CSV, TSV and Parquet, local or `s3://`.

Everything stays text until mcti/cohort/labels.py reads it, so that an error can show the very value that stands in
the file.
"""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import numpy.typing as npt
import pandas as pd

from mcti import storage
from mcti.cohort import text_files
from mcti.errors import DataError, did_you_mean
from mcti.storage import Location

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "not reported"}) | {
    f"[{word}]" for word in ("not available", "not applicable", "not evaluated", "unknown", "discrepancy", "completed")
}
"""What stands for no value, case folded; the bracketed words are those of TCGA's clinical files."""

LONGEST_CELL = 10_000
"""Characters of the longest cell taken for data; a longer one is a table read with the wrong quotes."""


@dataclass(frozen=True)
class RawTable:
    """Cells as text. `frame` has a 0-based index; missing cells are empty text."""

    frame: pd.DataFrame
    where: str
    rows: list[int]  # the row of the file in which each row of the frame stands; the header of a CSV is row 1
    warnings: list[str] = field(default_factory=list)
    originals: dict[str, str] = field(default_factory=dict)  # column of the frame -> its name in the file

    def at(self, position: int, column: str = "") -> str:
        """The address of a cell for an error: file, row, patient where known, column as the file names it."""
        parts = [self.where, f"row {self.rows[position]}"]
        if column != "patient_id" and "patient_id" in self.frame.columns:
            parts.append(f"patient {shorten(self.frame['patient_id'].iloc[position])}")
        return ", ".join([*parts, *([f"column {self.originals.get(column, column)}"] if column else [])])

    def need(self, *columns: str) -> None:
        """Raise a DataError for the first of `columns` that the table lacks, with the nearest name it has."""
        for column in columns:
            if column not in self.frame.columns:
                hint = did_you_mean(column, self.frame.columns)
                raise DataError(f"column {column!r} is missing", self.where, hint)


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

    Raises
        DataError: a cell that is no number: its row, column and value.
    """
    genes = [str(name) for name in table.frame.columns if name != key]
    lines = zip(table.rows, table.frame[genes].to_numpy().tolist(), strict=True)
    values = [_floats(cells, genes, f"{table.where}, row {row}") for row, cells in lines]
    return Matrix(table.frame[key].tolist(), genes, np.stack(values), table.where, table.rows, table.warnings)


def shorten(text: object, length: int = 60) -> str:
    """A value for an error message: long ones cut, so that one cell cannot fill the screen."""
    shown = str(text)
    return shown if len(shown) <= length else f"{shown[:length]}… ({len(shown)} characters)"


def is_missing(text: str) -> bool:
    """Whether a cell says that there is no value."""
    return text.strip().casefold() in MISSING


def read_table(
    location: Location, delimiter: str = ",", comment: str = "", unnamed: bool = False, shown: str = ""
) -> RawTable:
    """A CSV or Parquet table as text.

    delimiter, comment (lines that start with it are skipped), unnamed (a column may lack a name) are for CSV; shown is
    the name under which the user knows a file that was fetched.

    Raises
        DataError: not a table of that form, no rows, a cell that cannot be; with the row where it stands.
    """
    where = shown or str(location)
    with storage.local_copy(location) as path:
        if text_files.magic(path, where).startswith(b"PAR1"):
            return _parquet_table(path, where)
        with text_files.text(path, where) as (stream, warnings):
            rows = _Rows(stream, where, delimiter, comment, unnamed)
            header = rows.header()
            cells, numbers = [], []
            for row in rows:
                cells.append(row)
                numbers.append(rows.row)
    if not cells:
        raise _no_rows(where)
    return RawTable(pd.DataFrame(cells, columns=header, dtype=str), where, numbers, warnings)


def read_columns(location: Location, wanted: Callable[[str], bool]) -> RawTable:
    """The columns of a comma-separated table whose name is `wanted`; a column without a name (an index) is left out.

    Raises
        DataError: as `read_table`.
    """
    table = read_table(location, unnamed=True)
    frame = table.frame[[name for name in table.frame.columns if name and wanted(name)]]
    return RawTable(frame, table.where, table.rows, table.warnings)


def read_matrix(location: Location, key: str, delimiter: str = ",", skip: tuple[str, ...] = ()) -> Matrix:
    """A numeric table with one column of text, `key`; the others, but for those of `skip`, are float32.

    Raises
        DataError: as `read_table`, and for a cell that is no number: its row, column and value.
    """
    where = str(location)
    with storage.local_copy(location) as path:
        if text_files.magic(path, where).startswith(b"PAR1"):
            return _parquet_matrix(path, where, key)
        with text_files.text(path, where) as (stream, warnings):
            rows = _Rows(stream, where, delimiter)
            header = rows.header()
            position = _key_position(header, key, where)
            return _csv_matrix(rows, header, position, skip, warnings)


def _csv_matrix(rows: "_Rows", header: list[str], position: int, skip: tuple[str, ...], warnings: list[str]) -> Matrix:
    kept = [i for i, name in enumerate(header) if i != position and name not in skip]
    genes = [header[i] for i in kept]
    ids, values, numbers = [], [], []
    for cells in rows:
        numbers.append(rows.row)
        ids.append(cells[position])
        values.append(_floats([cells[i] for i in kept], genes, f"{rows.where}, row {rows.row}"))
    if not ids:
        raise _no_rows(rows.where)
    return Matrix(ids, genes, np.stack(values), rows.where, numbers, warnings)


def _floats(cells: list[str], names: list[str], where: str) -> npt.NDArray[np.float32]:
    try:
        return np.array(cells, dtype=np.float32)
    except ValueError:
        return np.array([_float(cell, name, where) for cell, name in zip(cells, names, strict=True)], dtype=np.float32)


def _float(cell: str, name: str, where: str) -> float:
    if is_missing(cell):
        return float("nan")
    try:
        return float(cell)
    except ValueError:
        hint = "write a decimal point" if "," in cell else "write a number, or nothing where the value is missing"
        raise DataError(f"{shorten(cell)!r} is not a number", f"{where}, column {name}", hint) from None


class _Rows:
    """The rows of a delimited text after its header, each with as many cells as the header."""

    def __init__(self, stream: TextIO, where: str, delimiter: str, comment: str = "", unnamed: bool = False) -> None:
        self.where, self.delimiter, self.unnamed, self.row = where, delimiter, unnamed, 0
        # The module's own limit would stop a long cell before its column is known; _refuse_long names both.
        csv.field_size_limit(1 << 30)
        lines = stream if not comment else (line for line in stream if not self._skipped(line, comment))
        self._reader = csv.reader(lines, delimiter=delimiter, strict=True)
        self._comments = 0
        self._names: list[str] = []

    def _skipped(self, line: str, comment: str) -> bool:
        self._comments += line.startswith(comment)
        return line.startswith(comment)

    def header(self) -> list[str]:
        names = next(self._cells(), None)
        if names is None:
            raise DataError("the file is empty", self.where, "give a table with a header and rows")
        self._check_delimiter(names)
        for number, name in enumerate(names, start=1):
            if not name.strip() and not self.unnamed:
                raise DataError(f"column {number} has no name", f"{self.where}, row {self.row}", "name or delete it")
            if name != name.strip():
                raise DataError(f"the column name {name!r} has a blank at its end", self.where, "delete the blank")
        refuse_duplicates(names, self.where)
        self._names = names
        return names

    def _check_delimiter(self, names: list[str]) -> None:
        if len(names) > 1:
            return
        for mark, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars"), (",", "commas")):
            if mark != self.delimiter and mark in names[0]:
                wanted = {",": "commas", "\t": "tabs"}[self.delimiter]
                hint = f"save it with {wanted} between the cells and a decimal point in the numbers"
                raise DataError(f"the cells are separated by {word}", f"{self.where}, row {self.row}", hint)

    def __iter__(self) -> Iterator[list[str]]:
        for cells in self._cells():
            if len(cells) != len(self._names):
                what = f"{len(cells)} cells where the header has {len(self._names)}"
                raise DataError(
                    what,
                    f"{self.where}, row {self.row}",
                    "quote the cell that holds the delimiter, and write decimals with a point",
                )
            yield cells

    def _cells(self) -> Iterator[list[str]]:
        while True:
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                place = f"{self.where}, row {self._reader.line_num + self._comments}"
                raise DataError(f"no cell can be read ({error})", place, "check the quotes of this row") from error
            self.row = self._reader.line_num + self._comments
            if any(cells):
                self._refuse_long(cells)
                yield cells

    def _refuse_long(self, cells: list[str]) -> None:
        long = next((i for i, cell in enumerate(cells) if len(cell) > LONGEST_CELL), None)
        if long is not None:
            column = f", column {self._names[long]}" if long < len(self._names) else ""
            raise _too_long(cells[long], f"{self.where}, row {self.row}{column}")


def refuse_duplicates(names: list[str], where: str) -> None:
    """Raise a DataError for the first name that stands twice in a header."""
    seen: set[str] = set()
    for number, name in enumerate(names, start=1):
        if name in seen:
            first = names.index(name) + 1
            what = f"column {shorten(name)!r} stands twice, as columns {first} and {number}"
            raise DataError(what, where, "delete one, or rename it")
        seen.add(name)


def _too_long(cell: str, where: str) -> DataError:
    return DataError(f"the cell {shorten(cell, 30)!r} is too long", where, "check the quotes of this row")


def _key_position(header: list[str], key: str, where: str) -> int:
    if key in header:
        return header.index(key)
    hint = f"one row a patient, one column a gene, first column {key}; turn the table round if its rows are genes"
    near = did_you_mean(key, header)
    raise DataError(f"column {key!r} is missing", where, near if near.startswith("did") else hint)


def _parquet_table(path: Path, where: str) -> RawTable:
    import pyarrow.parquet as pq

    with _parquet(where):
        table = pq.read_table(path)
    refuse_duplicates(table.column_names, where)
    if not table.num_rows:
        raise _no_rows(where)
    cells = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        _refuse_float_ids(name, column.type, where)
        # to_pylist keeps whole numbers whole where a column has gaps; pandas would write 1 as 1.0.
        cells[name] = ["" if value is None else str(value) for value in column.to_pylist()]
        for position, cell in enumerate(cells[name], start=1):
            if len(cell) > LONGEST_CELL:
                raise _too_long(cell, f"{where}, row {position}, column {name}")
    return RawTable(pd.DataFrame(cells, dtype=str), where, list(range(1, table.num_rows + 1)))


@contextmanager
def _parquet(where: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError("a Parquet file that cannot be read", where, "write or copy it again") from error


def _refuse_float_ids(name: str, kind: object, where: str) -> None:
    if name.endswith("_id") and str(kind) not in {"string", "large_string", "int64", "int32", "int16", "int8"}:
        raise DataError(f"{name} is of type {kind}", where, "write ids as text: 7 and 7.0 are not the same id")


def _parquet_matrix(path: Path, where: str, key: str) -> Matrix:
    import pyarrow.parquet as pq

    with _parquet(where):
        file = pq.ParquetFile(path)
    names = list(file.schema_arrow.names)
    refuse_duplicates(names, where)
    position = _key_position(names, key, where)
    _refuse_float_ids(key, file.schema_arrow.field(key).type, where)
    genes = names[:position] + names[position + 1 :]
    _refuse_text_genes(file.schema_arrow, genes, where)
    if not file.metadata.num_rows:
        raise _no_rows(where)
    ids: list[str] = []
    values = np.empty((file.metadata.num_rows, len(genes)), dtype=np.float32)
    for batch in file.iter_batches(batch_size=1024):
        stop = len(ids) + batch.num_rows
        for j, gene in enumerate(genes):
            values[len(ids) : stop, j] = batch.column(gene).to_numpy(zero_copy_only=False)
        ids += ["" if value is None else str(value) for value in batch.column(key).to_pylist()]
    return Matrix(ids, genes, values, where, list(range(1, len(ids) + 1)))


def _refuse_text_genes(schema: Any, genes: list[str], where: str) -> None:
    import pyarrow as pa

    for gene in genes:
        kind = schema.field(gene).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            hint = "genes are numbers: move this column to the clinical table or delete it"
            raise DataError(f"column {shorten(gene)!r} is of type {kind}, not a number", where, hint)


def _no_rows(where: str) -> DataError:
    return DataError("the table has a header and no rows", where, "give at least one row")
