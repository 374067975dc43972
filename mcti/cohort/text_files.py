"""A file of somebody else's as a stream of text, or an error that says what kind of file it is instead.

Plain text, text packed with gzip, and a zip archive of one file (as MCAT's tables are handed on) are opened.
"""

import gzip
import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TextIO

from mcti import storage
from mcti.errors import DataError

_KINDS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\xd0\xcf\x11\xe0": "an Excel file",
}
_HINTS = {"an Excel file": "save the sheet as CSV UTF-8 (File > Save as)"}
_ZIP, _GZIP = b"PK\x03\x04", b"\x1f\x8b"


def magic(path: Path, where: str) -> bytes:
    """The first four bytes of a file.

    Raises
        DataError: the file is empty, a workbook, or text in UTF-16 or UTF-32, with a mark at its start or without.
    """
    with storage.translating_os_errors(where), path.open("rb") as stream:
        start = stream.read(4)
    if not start:
        raise DataError("the file is empty", where, "give a table with a header and rows")
    for mark, name in _KINDS.items():
        if start.startswith(mark):
            raise _other_kind(name, where)
    # Text has no zero bytes; UTF-16 writes every second one of a Latin letter as zero.
    if b"\x00" in start and not start.startswith((_ZIP, _GZIP)):
        raise _other_kind("UTF-32" if start.count(b"\x00") == 3 else "UTF-16", where)
    return start


@contextmanager
def text(path: Path, where: str) -> Iterator[tuple[TextIO, list[str]]]:
    """The text of a file in UTF-8, unpacked, without its byte order mark, and what is to be said of it.

    Raises
        DataError: an archive that cannot be unpacked; in the body of the block, a byte that is not UTF-8 with its row.
    """
    with storage.translating_os_errors(where):  # around the rest: a broken gzip file is an OSError, too
        try:
            with _binary(path, where) as binary:
                marked = binary.read(3) == b"\xef\xbb\xbf"
            warnings = [f"{where} starts with a byte order mark, which was left out"] if marked else []
            with _binary(path, where) as binary:
                yield io.TextIOWrapper(binary, encoding="utf-8-sig", newline=""), warnings
        except UnicodeDecodeError:
            raise _not_utf8(path, where) from None
        except (gzip.BadGzipFile, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise DataError("an archive that cannot be unpacked", where, "copy or pack it again") from error


@contextmanager
def _binary(path: Path, where: str) -> Iterator[IO[bytes]]:
    with path.open("rb") as raw:
        start = raw.read(4)
        raw.seek(0)
        if start.startswith(_GZIP):
            yield io.BufferedReader(gzip.GzipFile(fileobj=raw))
        elif start == _ZIP:
            with zipfile.ZipFile(raw) as archive, archive.open(_member(archive, where)) as member:
                yield member
        else:
            yield raw


def _member(archive: zipfile.ZipFile, where: str) -> str:
    """The one file of an archive; what macOS adds beside it does not count."""
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if "[Content_Types].xml" in names or "mimetype" in names:
        raise _other_kind("an Excel file", where)
    if len(names) != 1:
        what = f"a zip archive of {len(names)} files, where one is needed"
        raise DataError(what, where, "unpack it, and name the table")
    return names[0]


def _other_kind(name: str, where: str) -> DataError:
    return DataError(f"the file is {name}, not CSV", where, _HINTS.get(name, "save it as CSV UTF-8"))


def _not_utf8(path: Path, where: str) -> DataError:
    """The row and the words around the first byte that is not UTF-8; the reader decodes in blocks and cannot tell."""
    with _binary(path, where) as binary:
        for row, line in enumerate(binary, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                near = line[max(error.start - 20, 0) : error.start + 20].decode("latin-1").strip()
                what = f"byte 0x{line[error.start]:02x} near {near!r} is not UTF-8"
                return DataError(what, f"{where}, row {row}", "save the table as CSV UTF-8")
    raise AssertionError("a file that could not be decoded was decoded")  # it changed while we read
