"""Source tables in Parquet: as text cells, or as an expression matrix read block by block."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mcti.cohort.raw_tables import (
    LONGEST_CELL,
    Matrix,
    RawTable,
    check_duplicate_columns,
    key_position,
    long_cell_error,
    no_rows_error,
    shorten,
)
from mcti.errors import DataError

_ID_TYPES = {"string", "large_string", "int64", "int32", "int16", "int8"}
_BATCH_ROWS = 1024


def read_table(path: Path, where: str) -> RawTable:
    """A Parquet table as text.

    Raises DataError when the file is damaged, has no rows, duplicated columns, ids as floats or a very long cell.
    """
    import pyarrow.parquet as pq

    with _translating_parquet_errors(where):
        table = pq.read_table(path)
    check_duplicate_columns(table.column_names, where)
    if not table.num_rows:
        raise no_rows_error(where)
    cells = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        _check_id_type(name, column.type, where)
        # to_pylist keeps whole numbers whole where a column has missing values; pandas would write 1 as 1.0.
        cells[name] = ["" if value is None else str(value) for value in column.to_pylist()]
        for row, cell in enumerate(cells[name], start=1):
            if len(cell) > LONGEST_CELL:
                raise long_cell_error(cell, f"{where}, row {row}, column {name}")
    return RawTable(pd.DataFrame(cells, dtype=str), where, list(range(1, table.num_rows + 1)))


def read_matrix(path: Path, where: str, key: str) -> Matrix:
    """A Parquet table of numbers with the id column `key` as an expression matrix.

    Raises DataError when the file is damaged, has no rows, no id column, or a gene column that is not numeric.
    """
    import pyarrow.parquet as pq

    with _translating_parquet_errors(where):
        file = pq.ParquetFile(path)
    names = list(file.schema_arrow.names)
    check_duplicate_columns(names, where)
    position = key_position(names, key, where)
    _check_id_type(key, file.schema_arrow.field(key).type, where)
    genes = names[:position] + names[position + 1 :]
    _check_gene_types(file.schema_arrow, genes, where)
    if not file.metadata.num_rows:
        raise no_rows_error(where)
    ids: list[str] = []
    values = np.empty((file.metadata.num_rows, len(genes)), dtype=np.float32)
    for batch in file.iter_batches(batch_size=_BATCH_ROWS):
        stop = len(ids) + batch.num_rows
        for j, gene in enumerate(genes):
            values[len(ids) : stop, j] = batch.column(gene).to_numpy(zero_copy_only=False)
        ids += ["" if value is None else str(value) for value in batch.column(key).to_pylist()]
    return Matrix(ids, genes, values, where, list(range(1, len(ids) + 1)))


@contextmanager
def _translating_parquet_errors(where: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError("the Parquet file cannot be read", where, "write it again, or copy it again") from error


def _check_id_type(column: str, arrow_type: object, where: str) -> None:
    if column.endswith("_id") and str(arrow_type) not in _ID_TYPES:
        raise DataError(f"{column} is of type {arrow_type}", where, "write ids as text: 7 and 7.0 are different ids")


def _check_gene_types(schema: Any, genes: list[str], where: str) -> None:
    import pyarrow as pa

    for gene in genes:
        arrow_type = schema.field(gene).type
        if not (pa.types.is_floating(arrow_type) or pa.types.is_integer(arrow_type)):
            hint = "gene columns are numeric: move this column to the clinical table, or delete it"
            raise DataError(f"column {shorten(gene)!r} is of type {arrow_type}, not a number", where, hint)
