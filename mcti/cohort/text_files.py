"""Foreign text files as a stream of text, or an error that names the format of the file.

Plain text, text compressed with gzip, and a zip archive with one file (the form of MCAT's tables) can be opened.
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

_FORMATS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"\xd0\xcf\x11\xe0": "an Excel file",
}
_HINTS = {"an Excel file": "save the sheet as CSV UTF-8 (File > Save as)"}
_ZIP, _GZIP, _UTF8_MARK = b"PK\x03\x04", b"\x1f\x8b", b"\xef\xbb\xbf"


def first_bytes(path: Path, where: str) -> bytes:
    """The first four bytes of a file, which identify its format.

    Raises DataError when the file is empty, a workbook, or text in UTF-16 or UTF-32, with or without a mark.
    """
    with storage.translating_os_errors(where), path.open("rb") as stream:
        start = stream.read(4)
    if not start:
        raise DataError("the file is empty", where, "write a table with a header and rows")
    for mark, format_name in _FORMATS.items():
        if start.startswith(mark):
            raise _format_error(format_name, where)
    # UTF-8 text has no zero bytes; in UTF-16 every second byte of a Latin letter is zero.
    if b"\x00" in start and not start.startswith((_ZIP, _GZIP)):
        raise _format_error("UTF-32" if start.count(b"\x00") == 3 else "UTF-16", where)
    return start


@contextmanager
def open_text(path: Path, where: str) -> Iterator[tuple[TextIO, list[str]]]:
    """The text of a UTF-8 file, decompressed and without its byte order mark, and the warnings about it.

    Raises DataError when an archive cannot be unpacked; in the body of the block, when a byte is not UTF-8.
    """
    with storage.translating_os_errors(where):  # outermost: a damaged gzip file raises an OSError, too
        try:
            with _open_binary(path, where) as binary:
                has_mark = binary.read(len(_UTF8_MARK)) == _UTF8_MARK
            warnings = [f"{where} starts with a byte order mark, which was removed"] if has_mark else []
            with _open_binary(path, where) as binary:
                yield io.TextIOWrapper(binary, encoding="utf-8-sig", newline=""), warnings
        except UnicodeDecodeError:
            raise _encoding_error(path, where) from None
        except (gzip.BadGzipFile, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise _archive_error(where) from error


def unpacked_bytes(path: Path, where: str) -> bytes:
    """The bytes of a file, of the one file of a zip archive, or of a file compressed with gzip.

    Raises DataError when an archive cannot be unpacked, or is a workbook.
    """
    with storage.translating_os_errors(where):
        try:
            with _open_binary(path, where) as binary:
                return binary.read()
        except (gzip.BadGzipFile, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise _archive_error(where) from error


def _archive_error(where: str) -> DataError:
    return DataError("the archive cannot be unpacked", where, "copy it again, or compress it again")


@contextmanager
def _open_binary(path: Path, where: str) -> Iterator[IO[bytes]]:
    with path.open("rb") as raw:
        start = raw.read(4)
        raw.seek(0)
        if start.startswith(_GZIP):
            yield io.BufferedReader(gzip.GzipFile(fileobj=raw))
        elif start == _ZIP:
            with zipfile.ZipFile(raw) as archive, archive.open(_member_name(archive, where)) as member:
                yield member
        else:
            yield raw


def _member_name(archive: zipfile.ZipFile, where: str) -> str:
    """The one file of an archive; the metadata that macOS adds is ignored."""
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if "[Content_Types].xml" in names or "mimetype" in names:
        raise _format_error("an Excel file", where)
    if len(names) != 1:
        hint = "unpack the archive, and use the path of the table"
        raise DataError(f"the zip archive has {len(names)} files, exactly one is needed", where, hint)
    return names[0]


def _format_error(format_name: str, where: str) -> DataError:
    return DataError(f"the file is {format_name}, not CSV", where, _HINTS.get(format_name, "save it as CSV UTF-8"))


def _encoding_error(path: Path, where: str) -> DataError:
    """The error for the first byte that is not UTF-8, with its row. The text reader decodes blocks and has no rows."""
    with _open_binary(path, where) as binary:
        for row, line in enumerate(binary, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                near = line[max(error.start - 20, 0) : error.start + 20].decode("latin-1").strip()
                what = f"byte 0x{line[error.start]:02x} near {near!r} is not UTF-8"
                return DataError(what, f"{where}, row {row}", "save the table as CSV UTF-8")
    raise AssertionError("the file was changed while it was read")
