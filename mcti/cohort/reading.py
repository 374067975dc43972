"""Source tables as text: CSV, TSV and Parquet, local files and `s3://` addresses.

Cells remain text until mcti/cohort/labels.py parses them, so that an error can quote the value in the file.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from mcti import storage
from mcti.cohort import parquet_files, text_files
from mcti.cohort.delimited import DelimitedRows, Dialect
from mcti.cohort.raw_tables import Matrix, RawTable, key_position, no_rows_error, parse_floats
from mcti.storage import Location

CSV, TSV = Dialect(), Dialect("\t")
TSV_WITH_COMMENTS = Dialect("\t", "#")
CSV_WITH_INDEX = Dialect(unnamed_columns=True)
_PARQUET = b"PAR1"


def read_table(location: Location, dialect: Dialect = CSV, display_name: str = "") -> RawTable:
    """A delimited or Parquet table as text.

    dialect         of delimited text; a Parquet file is recognised by its first bytes
    display_name    name for error messages; default: `location`

    Raises DataError when it is no such table, has no rows or an invalid cell, with the row.
    """
    where = display_name or str(location)
    with storage.local_copy(location) as path:
        if text_files.first_bytes(path, where).startswith(_PARQUET):
            return parquet_files.read_table(path, where)
        with text_files.open_text(path, where) as (stream, warnings):
            rows = DelimitedRows(stream, where, dialect)
            header = rows.header()
            cells, numbers = [], []
            for row in rows:
                cells.append(row)
                numbers.append(rows.row)
    if not cells:
        raise no_rows_error(where)
    return RawTable(pd.DataFrame(cells, columns=header, dtype=str), where, numbers, warnings)


def read_columns(location: Location, selected: Callable[[str], bool]) -> RawTable:
    """The columns of a comma-separated table whose name is `selected`; a column without a name (an index) is dropped.

    Raises DataError as `read_table`.
    """
    table = read_table(location, CSV_WITH_INDEX)
    frame = table.frame[[name for name in table.frame.columns if name and selected(name)]]
    return RawTable(frame, table.where, table.rows, table.warnings)


def read_matrix(location: Location, key: str, dialect: Dialect = CSV, skip: tuple[str, ...] = ()) -> Matrix:
    """A numeric table with one text column, `key`; the other columns, except those in `skip`, are float32.

    Raises DataError as `read_table`, and when a cell is not a number, with its row, column and value.
    """
    where = str(location)
    with storage.local_copy(location) as path:
        if text_files.first_bytes(path, where).startswith(_PARQUET):
            return parquet_files.read_matrix(path, where, key)
        with text_files.open_text(path, where) as (stream, warnings):
            rows = DelimitedRows(stream, where, dialect)
            header = rows.header()
            return _delimited_matrix(rows, header, key_position(header, key, where), skip, warnings)


def _delimited_matrix(
    rows: DelimitedRows, header: list[str], position: int, skip: tuple[str, ...], warnings: list[str]
) -> Matrix:
    columns = [i for i, name in enumerate(header) if i != position and name not in skip]
    genes = [header[i] for i in columns]
    ids, values, numbers = [], [], []
    for cells in rows:
        numbers.append(rows.row)
        ids.append(cells[position])
        values.append(parse_floats([cells[i] for i in columns], genes, f"{rows.where}, row {rows.row}"))
    if not ids:
        raise no_rows_error(rows.where)
    return Matrix(ids, genes, np.stack(values), rows.where, numbers, warnings)
