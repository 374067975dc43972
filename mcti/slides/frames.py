"""The levels of a DICOM slide for the direct reader: the position of each frame in its file, and its codec.

Supported: every tile once, row by row (TILED_FULL), one optical path, one focal plane, one fragment per frame (PS3.3
C.7.6.17.3, PS3.5 A.4). OpenSlide reads the other forms.
"""

import os
import struct
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from mcti.slides import dicom, tiff
from mcti.slides.decoding import jpeg_colours
from mcti.slides.status import SlideError, Status

_PIXEL_DATA, _ITEM, _END = b"\xe0\x7f\x10\x00", b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_CODECS = {"1.2.840.10008.1.2": 1, "1.2.840.10008.1.2.1": 1, "1.2.840.10008.1.2.4.50": 7}
_CODECS |= {"1.2.840.10008.1.2.4.90": 34712, "1.2.840.10008.1.2.4.91": 34712}
_RGB, _YCBCR = 2, 6
_COLOURS = {"RGB": _RGB, "YBR_FULL_422": _YCBCR, "YBR_FULL": _YCBCR, "YBR_ICT": _RGB, "YBR_RCT": _RGB}
"""Colour space after decoding: JPEG 2000 inverts its own transforms (ICT, RCT)."""


@dataclass(frozen=True)
class FrameLevel:
    """One level: its file, and its frames described as the tiles of a TIFF directory."""

    path: Path
    directory: tiff.Directory


def levels(series: list[dicom.Instance]) -> list[FrameLevel] | None:
    """The levels of a local series, the finest first; None when the direct reader does not support one of them."""
    supported = []
    for instance in series:
        level = _level(Path(instance.location))
        if level is None:
            return None
        supported.append(level)
    return supported


def pixel_size(path: Path) -> tuple[float, float] | None:
    """µm/px in x and y; None when not stated (PixelSpacing: mm between rows, then between columns)."""
    header, _ = _header(path)
    try:
        down, across = header.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
        sizes = float(Decimal(str(across)) * 1000), float(Decimal(str(down)) * 1000)
    except (AttributeError, IndexError, TypeError, ValueError, ArithmeticError):
        return None
    return sizes if min(sizes) > 0 else None


def _header(path: Path) -> tuple[Any, int]:
    """The header of a file, and the offset of its pixel data."""
    import pydicom

    try:
        with path.open("rb") as stream:
            return pydicom.dcmread(stream, stop_before_pixels=True), stream.tell()
    except OSError:
        raise
    except Exception as error:  # as in dicom.instance
        what = f"the DICOM header does not parse ({type(error).__name__})"
        raise SlideError(Status.READ_ERROR, what, "copy it again") from error


def _level(path: Path) -> FrameLevel | None:
    header, start = _header(path)
    syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
    codec, colours = _CODECS.get(syntax), _COLOURS.get(str(header.get("PhotometricInterpretation", "")))
    if codec is None or colours is None or not _is_supported(header) or (codec == 1 and colours != _RGB):
        return None
    tile, size = (header.Columns, header.Rows), (header.TotalPixelMatrixColumns, header.TotalPixelMatrixRows)
    count = -(-size[0] // tile[0]) * -(-size[1] // tile[1])
    descriptor = os.open(path, os.O_RDONLY)
    try:
        length = os.fstat(descriptor).st_size
        table = _native(descriptor, start, syntax, tile, count) if codec == 1 else _fragments(descriptor, start, length)
        if table is None or len(table[0]) != count:
            return None
        if codec == 7:
            colours = jpeg_colours(os.pread(descriptor, min(table[1][0], 65_536), table[0][0]), colours)
    finally:
        os.close(descriptor)
    directory = _directory(size, tile, codec, colours, table)
    tiff.check_tables(directory, length)
    return FrameLevel(path, directory)


def _is_supported(header: Any) -> bool:
    single = all(int(header.get(name) or 1) == 1 for name in ("NumberOfOpticalPaths", "TotalPixelMatrixFocalPlanes"))
    full = str(header.get("DimensionOrganizationType", "")) == "TILED_FULL"
    interleaved = int(header.get("PlanarConfiguration") or 0) == 0
    sized = all(int(header.get(name) or 0) > 0 for name in ("Rows", "Columns", "TotalPixelMatrixColumns"))
    return single and full and interleaved and sized and int(header.get("TotalPixelMatrixRows") or 0) > 0


def _fragments(descriptor: int, start: int, length: int) -> tuple[list[int], list[int]] | None:
    """Offsets and sizes of the items after the offset table; None when the pixel data are not encapsulated."""
    head = os.pread(descriptor, 12, start)
    if head[:4] != _PIXEL_DATA or head[8:] != b"\xff\xff\xff\xff":
        return None
    offsets, sizes, position, first = [], [], start + 12, True
    while position + 8 <= length:
        item = os.pread(descriptor, 8, position)
        if item[:4] == _END:
            break
        if item[:4] != _ITEM:
            return None
        size = struct.unpack("<I", item[4:])[0]
        if not first:
            offsets.append(position + 8)
            sizes.append(size)
        position, first = position + 8 + size, False
    return offsets, sizes


def _native(
    descriptor: int, start: int, syntax: str, tile: tuple[int, int], count: int
) -> tuple[list[int], list[int]] | None:
    """Offsets and sizes of uncompressed, contiguous frames; None when the pixel data do not begin at `start`."""
    head = os.pread(descriptor, 12, start)
    if head[:4] != _PIXEL_DATA:
        return None
    first = start + (8 if syntax == "1.2.840.10008.1.2" else 12)  # implicit VR: only tag and length
    size = tile[0] * tile[1] * 3
    return [first + i * size for i in range(count)], [size] * count


def _directory(
    size: tuple[int, int], tile: tuple[int, int], codec: int, colours: int, table: tuple[list[int], list[int]]
) -> tiff.Directory:
    numbers = {256: size[0], 257: size[1], 322: tile[0], 323: tile[1], 277: 3, 258: 8, 259: codec, 262: colours, 284: 1}
    tags: dict[int, Any] = {tag: np.array([number]) for tag, number in numbers.items()}
    tags[324], tags[325] = (np.asarray(column, np.uint64) for column in table)
    return tiff.Directory(tags)
