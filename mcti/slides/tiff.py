"""Reads the directories of a TIFF or BigTIFF file and checks every offset against the file's length.

tifffile is not used: it reads the tile tables lazily, moves a shared file pointer and ignores a broken directory. This
module allocates nothing that exceeds the file, and distinguishes a truncated file from an unsupported one. Format:
TIFF 6.0 (Adobe, 1992), sections 2 and 8; BigTIFF (libtiff's bigtiffdesign).
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mcti.slides.status import SlideError, Status

Pread = Callable[[int, int], bytes]
"""Returns the bytes at (offset, size) of the file; fewer at its end."""

_TYPES = {1: "B", 2: "c", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"}
_TYPES |= {13: "I", 16: "Q", 17: "q", 18: "Q"}
_MAX_DIRECTORIES = 512
_MAX_ENTRIES = 4096
_TAGS = {
    254,
    256,
    257,
    258,
    259,
    262,
    270,
    271,
    273,
    274,
    277,
    278,
    279,
    282,
    283,
    284,
    296,
    305,
    317,
    322,
    323,
    324,
    325,
}
_TAGS |= {330, 338, 339, 347, 530, 700, 65420}


@dataclass(frozen=True)
class Directory:
    """One picture of the file: a level, a thumbnail, a label, a macro photograph.

    ifd     number in the main chain; for a sub-directory (`sub`) that of its parent
    """

    tags: dict[int, Any] = field(repr=False)
    ifd: int = 0
    sub: bool = False

    def _number(self, tag: int, default: int) -> int:
        value = self.tags.get(tag)
        return int(value[0]) if isinstance(value, np.ndarray) and len(value) else default

    @property
    def width(self) -> int:
        """Pixels across."""
        return self._number(256, 0)

    @property
    def height(self) -> int:
        """Pixels down."""
        return self._number(257, 0)

    @property
    def tile(self) -> tuple[int, int]:
        """Width and height of a tile; zeros for a picture in strips."""
        return self._number(322, 0), self._number(323, 0)

    @property
    def tiled(self) -> bool:
        """Whether the picture is stored in tiles."""
        return min(self.tile) > 0

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles across and down."""
        across, down = self.tile
        return -(-self.width // across), -(-self.height // down)

    @property
    def samples(self) -> int:
        """Samples per pixel."""
        return self._number(277, 1)

    @property
    def bits(self) -> int:
        """Bits per sample; 0 when the samples differ."""
        bits = set(np.atleast_1d(self.tags.get(258, np.array([1]))).tolist())
        return int(bits.pop()) if len(bits) == 1 else 0

    @property
    def compression(self) -> int:
        """TIFF number of the codec."""
        return self._number(259, 1)

    @property
    def photometric(self) -> int:
        """2 RGB, 6 YCbCr, 1 grey."""
        return self._number(262, 1)

    @property
    def predictor(self) -> int:
        """1 none, 2 horizontal differences."""
        return self._number(317, 1)

    @property
    def planar(self) -> int:
        """1 interleaved samples, 2 separate planes."""
        return self._number(284, 1)

    @property
    def subfile(self) -> int:
        """Bit 0: a smaller version of another picture."""
        return self._number(254, 0)

    @property
    def extra_sample(self) -> int:
        """Meaning of the fourth sample: 1 premultiplied alpha, 2 alpha, 0 not stated."""
        return self._number(338, 0)

    @property
    def orientation(self) -> int:
        """Position of the first pixel: 1 upper left; 2 to 8 mirrored or rotated."""
        return self._number(274, 1)

    @property
    def description(self) -> str:
        """ImageDescription."""
        return str(self.tags.get(270, ""))

    @property
    def software(self) -> str:
        """Software."""
        return str(self.tags.get(305, ""))

    @property
    def ndpi(self) -> bool:
        """Whether a Hamamatsu scanner wrote the picture."""
        return 65420 in self.tags

    @property
    def offsets(self) -> NDArray[np.uint64]:
        """Byte offset (N,) of each tile or strip."""
        return np.asarray(self.tags.get(324, self.tags.get(273, np.zeros(0))), np.uint64)

    @property
    def counts(self) -> NDArray[np.uint64]:
        """Size (N,) in bytes of each tile or strip."""
        return np.asarray(self.tags.get(325, self.tags.get(279, np.zeros(0))), np.uint64)

    @property
    def jpeg_tables(self) -> bytes | None:
        """Shared JPEG tables."""
        tables = self.tags.get(347)
        return None if tables is None else bytes(tables)

    @property
    def children(self) -> list[int]:
        """Offsets of sub-directories."""
        return [int(offset) for offset in np.atleast_1d(self.tags.get(330, np.zeros(0, np.int64)))]

    @property
    def resolution(self) -> tuple[float, float] | None:
        """µm/px in x and y from the resolution tags; None without a physical unit."""
        unit = {2: 25_400.0, 3: 10_000.0}.get(self._number(296, 2))
        across, down = (self.tags.get(tag) for tag in (282, 283))
        if unit is None or across is None or down is None or min(*across, *down) <= 0 or len(across) + len(down) < 4:
            return None
        return float(unit * across[1] / across[0]), float(unit * down[1] / down[0])


def directories(pread: Pread, length: int) -> list[Directory]:
    """All pictures of the file, the main chain first, each followed by its sub-directories.

    Raises SlideError: UNSUPPORTED_FORMAT for a file that is no TIFF, TRUNCATED when a directory, value or tile is
    beyond the end of the file, READ_ERROR when the chain is circular or a table does not match the picture size.
    """
    parser = _Parser(pread, length)
    pages = list(parser.chain())
    for page in pages:
        check_tables(page, length)
    return pages


def looks_like_tiff(head: bytes) -> bool:
    """Whether the first bytes are those of a TIFF file, complete or truncated."""
    marks = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
    return any(mark[: max(len(head), 1)] == head[:4] for mark in marks)


class _Parser:
    def __init__(self, pread: Pread, length: int) -> None:
        self._pread, self._length = pread, length
        head = pread(0, 16)
        if not looks_like_tiff(head):
            raise SlideError(Status.UNSUPPORTED_FORMAT, "not a TIFF file")
        if len(head) < 8:
            raise SlideError(Status.TRUNCATED, f"the file ends after {len(head)} bytes", "copy it again")
        self._order: Literal["<", ">"] = "<" if head[:1] == b"I" else ">"
        self._big = head[2:4] in (b"+\0", b"\0+")
        if self._big and len(head) < 16:
            raise SlideError(Status.TRUNCATED, f"the file ends after {len(head)} bytes", "copy it again")
        self._first = self._unpack("Q", head[8:16]) if self._big else self._unpack("I", head[4:8])

    def chain(self) -> Iterator[Directory]:
        offset, visited, number = self._first, set[int](), 0
        if not offset:
            raise SlideError(Status.READ_ERROR, "the file has no picture")
        while offset:
            directory, offset = self._directory(self._visit(offset, visited))
            yield replace(directory, ifd=number)
            listed = set[int]()
            for child in directory.children:
                # Sub-directories form a chain; some writers list its members in the tag as well.
                while child and child not in listed:
                    listed.add(child)
                    below, child = self._directory(self._visit(child, visited))
                    yield replace(below, ifd=number, sub=True)
            number += 1

    def _visit(self, offset: int, visited: set[int]) -> int:
        if offset in visited or len(visited) >= _MAX_DIRECTORIES:
            raise SlideError(Status.READ_ERROR, "the chain of directories is circular", "export it again")
        visited.add(offset)
        return offset

    def _directory(self, offset: int) -> tuple[Directory, int]:
        size, width, letter = (8, 20, "Q") if self._big else (2, 12, "I")
        entries = self._unpack("Q" if self._big else "H", self._bytes(offset, size, "a directory"))
        if not 0 < entries <= _MAX_ENTRIES:
            raise SlideError(Status.READ_ERROR, f"a directory states {entries} entries", "export the slide again")
        last = struct.calcsize(letter)
        body = self._bytes(offset + size, entries * width + last, "a directory")
        tags = {}
        for start in range(0, entries * width, width):
            tag, type_number = struct.unpack(self._order + "HH", body[start : start + 4])
            if tag in _TAGS and type_number in _TYPES:
                tags[tag] = self._value(type_number, body[start + 4 : start + width])
        return Directory(tags), self._unpack(letter, body[-last:])

    def _value(self, type_number: int, entry: bytes) -> Any:
        half = len(entry) // 2
        count = self._unpack("Q" if self._big else "I", entry[:half])
        letter = _TYPES[type_number]
        size = struct.calcsize("=" + letter) * count
        if size > half:
            data = self._bytes(self._unpack("Q" if self._big else "I", entry[half:]), size, "a directory's value")
        else:
            data = entry[half : half + size]
        if type_number == 2:
            return _text(data.split(b"\0")[0])
        return np.frombuffer(data, np.dtype(letter[0]).newbyteorder(self._order))

    def _bytes(self, offset: int, size: int, what: str) -> bytes:
        if offset + size > self._length:
            raise SlideError(
                Status.TRUNCATED,
                f"{what} ends at byte {offset + size}, the file at {self._length}",
                "copy it again",
            )
        return self._pread(offset, size)

    def _unpack(self, letter: str, data: bytes) -> int:
        return int(struct.unpack(self._order + letter, data)[0])


def _text(data: bytes) -> str:
    """UTF-8, as in OME-XML, else Latin-1, in which µ is one byte."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def check_tables(directory: Directory, length: int) -> None:
    """Check that the tables match the picture size, and that all tiles are within the file.

    Raises SlideError: READ_ERROR for tables of another size, TRUNCATED for tiles beyond the end of the file.
    """
    offsets, counts = directory.offsets, directory.counts
    if directory.tiled:
        across, down = directory.grid
        if max(directory.tile) > 4096 or directory.samples > 16:
            raise SlideError(
                Status.READ_ERROR, f"the directory states tiles of {directory.tile} px", "export the slide again"
            )
        expected = across * down * (directory.samples if directory.planar == 2 else 1)
        if not len(offsets) == len(counts) == expected:
            raise SlideError(
                Status.READ_ERROR,
                f"{directory.width}x{directory.height} px need {expected} tiles, the table has {len(offsets)}",
                "export the slide again",
            )
    if len(offsets) == len(counts):
        ends = offsets.astype(np.float64) + counts.astype(np.float64)  # sums of uint64 could wrap around
        if len(ends) and ends.max() > length:
            raise SlideError(
                Status.TRUNCATED,
                f"{int((ends > length).sum())} of {len(ends)} tiles are beyond the end of the file (byte {length})",
                "copy it again",
            )
