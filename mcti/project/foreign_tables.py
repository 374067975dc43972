"""Tables as spreadsheets and registries write them: any delimiter, UTF-8, UTF-16 or Windows-1252, decimal commas.

`ingest` accepts one form only. A table in another form is converted once, when a project is made.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mcti import storage
from mcti.cohort import text_files
from mcti.cohort.raw_tables import is_missing, no_rows_error
from mcti.cohort.reading import read_table
from mcti.errors import DataError
from mcti.project import delimited_rows
from mcti.storage import Location

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?")
_GDC_MISSING = frozenset({"'--", "--"})
_BINARY = (b"PAR1", b"\xd0\xcf\x11\xe0")


@dataclass(frozen=True)
class ForeignTable:
    """Cells as text, without spaces at the ends; a missing cell is empty.

    differences     in what the file differs from a table that `ingest` reads; empty: it can be used as it is
    """

    frame: pd.DataFrame
    where: str
    differences: tuple[str, ...]


def read(location: Location) -> ForeignTable:
    """A table of any delimiter and encoding, or Parquet.

    Raises DataError when there is no such file, or it is no table.
    """
    where = str(location)
    if not storage.exists(location):
        raise DataError("no such file", where, "check the path")
    if Path(where).is_dir():
        raise DataError("a folder, not a table", where, "name the file")
    with storage.local_copy(location) as path:
        data = text_files.unpacked_bytes(path, where)
    if data.startswith(_BINARY):  # Parquet or a workbook: read, or refused by its format
        return ForeignTable(read_table(location).frame, where, ())
    text, differences = _decoded(data, where)
    delimiter = _delimiter(text)
    frame, changes = delimited_rows.read(text, delimiter, where)
    if frame.empty:
        raise no_rows_error(where)
    if delimiter != ",":
        differences.append(f"separated by {_DELIMITERS[delimiter]}")
    return _clean(frame, where, [*differences, *changes], decimal_commas=delimiter != ",")


def _decoded(data: bytes, where: str) -> tuple[str, list[str]]:
    """The text of a file, and the difference of its encoding; a byte order mark is accepted by `ingest`, too."""
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    differences = ["UTF-16"] if encoding == "utf-16" else []
    try:
        return data.decode(encoding), differences
    except UnicodeDecodeError:
        pass
    try:
        return data.decode("cp1252"), ["Windows-1252"]
    except UnicodeDecodeError as error:
        hint = "save the table as CSV UTF-8"
        raise DataError("the file is no text in UTF-8, UTF-16 or Windows-1252", where, hint) from error


def _delimiter(text: str) -> str:
    """The delimiter that occurs most often in the header, outside quotes."""
    lines = [line for line in text.splitlines() if line.strip()]
    first = next((line for line in lines if not line.startswith("#")), lines[0] if lines else "")
    header = re.sub(r'"[^"]*"', "", first)
    return max(_DELIMITERS, key=header.count)


def _clean(frame: pd.DataFrame, where: str, differences: list[str], *, decimal_commas: bool) -> ForeignTable:
    """The table with stripped cells and decimal points, and what was changed."""
    stripped = frame.apply(lambda cells: cells.str.strip())
    if not stripped.equals(frame):
        differences.append("spaces at the ends of cells")
    missing = stripped.isin(_GDC_MISSING)
    if missing.to_numpy().any():
        differences.append("'-- for missing values")
        stripped = stripped.mask(missing, "")
    if decimal_commas:
        names = [name for name in stripped.columns if _has_decimal_commas(stripped[name])]
        for name in names:
            stripped[name] = stripped[name].str.replace(",", ".", regex=False)
        if names:
            differences.append("decimal commas")
    return ForeignTable(stripped, where, tuple(differences))


def _has_decimal_commas(cells: "pd.Series[str]") -> bool:
    filled = [cell for cell in cells if not is_missing(cell)]
    return all(_NUMBER.fullmatch(cell) for cell in filled) and any(_DECIMAL_COMMA.fullmatch(cell) for cell in filled)
