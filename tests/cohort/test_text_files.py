"""Formats of foreign text files."""

import gzip

import pytest

from mcti.cohort import text_files
from mcti.errors import DataError


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_text_is_read_plain_or_compressed(tmp_path, pack):
    (tmp_path / "t").write_bytes(pack(b"\xef\xbb\xbfa,b\n"))
    with text_files.open_text(tmp_path / "t", "t") as (stream, warnings):
        assert stream.read() == "a,b\n"
    assert warnings == ["t starts with a byte order mark, which was removed"]


@pytest.mark.parametrize(
    ("body", "message"),
    [(b"", "the file is empty"), (b"\xd0\xcf\x11\xe0", "an Excel file"), ("ab".encode("utf-16-le"), "UTF-16")],
)
def test_other_formats_are_named(tmp_path, body, message):
    (tmp_path / "t").write_bytes(body)
    with pytest.raises(DataError, match=message):
        text_files.first_bytes(tmp_path / "t", "t")
