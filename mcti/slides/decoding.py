"""The bytes of one TIFF tile to pixels, never more of them than the directory claims."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcti.slides.status import RegionError, SlideError, Status
from mcti.slides.tiff import Directory

Pixels = NDArray[np.uint8]

_JPEG, _JPEG2000_YCC = 7, 33003
_JPEG2000 = (_JPEG2000_YCC, 33004, 33005, 34712)  # Aperio's two, Bio-Formats' and the registered one
_RAW = {1: "none", 5: "lzw", 8: "deflate", 32946: "deflate"}
NAMES = {**_RAW, _JPEG: "jpeg", **dict.fromkeys(_JPEG2000, "jpeg2000")}
"""TIFF's compression numbers that the direct reader knows."""


def check(directory: Directory) -> None:
    """Raise a SlideError when the direct reader has no way to read this picture."""
    if directory.compression not in NAMES:
        raise SlideError(
            Status.UNSUPPORTED_COMPRESSION,
            f"compression {directory.compression}",
            "convert the slide to JPEG tiles, e.g. with vips tiffsave",
        )
    if directory.bits != 8 or directory.samples not in (3, 4) or directory.photometric not in (2, 6):
        raise SlideError(
            Status.NOT_HE,
            f"{directory.samples} samples of {directory.bits or 'unlike'} bits: not an RGB picture of a stained slide",
        )
    if directory.planar != 1 or (directory.photometric == 6 and directory.compression in _RAW):
        raise SlideError(Status.UNSUPPORTED_FORMAT, "samples in planes, or YCbCr without JPEG")


def decoder(directory: Directory) -> Callable[[bytes], Pixels]:
    """The function from a tile's bytes to (tile height, tile width, 3) uint8 RGB. It raises RegionError."""
    check(directory)
    across, down = directory.tile
    decode = _codec(directory)

    def guarded(data: bytes) -> Pixels:
        try:
            pixels = decode(data)
        except (RuntimeError, ValueError, IndexError, TypeError, MemoryError) as error:
            raise RegionError(f"a tile that does not decode ({type(error).__name__})") from error
        if pixels.shape[:2] != (down, across) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] < 3:
            raise RegionError(f"a tile of {pixels.shape[1::-1]} px where {across}x{down} is claimed")
        return pixels[:, :, :3]

    return guarded


def _codec(directory: Directory) -> Callable[[bytes], Pixels]:
    if directory.compression == _JPEG:
        return _jpeg(directory)
    if directory.compression in _JPEG2000:
        return _jpeg2000(directory)
    return _raw(directory)


def _jpeg(directory: Directory) -> Callable[[bytes], Pixels]:
    from imagecodecs import jpeg8_decode

    tables, size = directory.jpeg_tables, directory.tile
    # Aperio writes RGB without a marker that says so: the directory decides, as in libtiff.
    rgb, ycbcr = 2, 3  # libjpeg's J_COLOR_SPACE
    space = ycbcr if directory.photometric == 6 else rgb

    def decode(data: bytes) -> Pixels:
        claimed = _jpeg_size(data)
        if claimed != size:  # before decoding: a small tile may claim 65535 x 65535
            raise ValueError(f"the tile's own header says {claimed}")
        pixels: Pixels = jpeg8_decode(data, tables=tables, colorspace=space, outcolorspace=rgb)
        return pixels

    return decode


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height in the frame header (ISO 10918-1, B.2.2)."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[at + 7] << 8 | data[at + 8], data[at + 5] << 8 | data[at + 6]
        at += 2 + (data[at + 2] << 8 | data[at + 3])
    raise ValueError("no frame header")


def _jpeg2000(directory: Directory) -> Callable[[bytes], Pixels]:
    from imagecodecs import jpeg2k_decode

    size = directory.tile

    def decode(data: bytes) -> Pixels:
        claimed = _jpeg2000_size(data)
        if claimed != size:
            raise ValueError(f"the tile's own header says {claimed}")
        pixels: Pixels = jpeg2k_decode(data)
        return _rgb_of_ycc(pixels) if directory.compression == _JPEG2000_YCC else pixels

    return decode


def _jpeg2000_size(data: bytes) -> tuple[int, int]:
    """Width and height in the SIZ segment (ISO 15444-1, A.5.1) of a bare code stream."""
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0 or len(data) < at + 24:
        raise ValueError("no code stream")
    right, bottom, left, top = (int.from_bytes(data[at + i : at + i + 4], "big") for i in (8, 12, 16, 20))
    return right - left, bottom - top


def _rgb_of_ycc(pixels: Pixels) -> Pixels:
    """Full-range YCbCr to RGB (JFIF 1.02) with its coefficients to five digits in 16-bit fixed point.

    The green of six-digit coefficients differs from OpenSlide's in one pixel of three thousand, that of these in none.
    """
    y, cb, cr = pixels[:, :, 0].astype(np.int32), pixels[:, :, 1], pixels[:, :, 2]
    one, half = 1 << 16, 1 << 15
    centred = np.arange(256) - 128
    red, blue = 91881 * centred, 116130 * centred  # 1.402 and 1.772
    green_b, green_r = (np.rint(factor * one * centred).astype(np.int64) for factor in (-0.34414, -0.71414))
    planes = [
        y + ((red[cr] + half) >> 16),
        y + ((green_b[cb] + green_r[cr] + half) >> 16),
        y + ((blue[cb] + half) >> 16),
    ]
    return np.stack(planes, axis=2).clip(0, 255).astype(np.uint8)


def _raw(directory: Directory) -> Callable[[bytes], Pixels]:
    import imagecodecs

    across, down = directory.tile
    size = across * down * directory.samples
    unpack: dict[str, Callable[[bytes], Any]] = {
        "none": lambda data: data,
        "lzw": lambda data: imagecodecs.lzw_decode(data, out=size),
        "deflate": lambda data: imagecodecs.zlib_decode(data, out=size),
    }
    stream = unpack[_RAW[directory.compression]]

    def decode(data: bytes) -> Pixels:
        pixels = np.frombuffer(stream(data), np.uint8)
        if pixels.size < size:
            raise ValueError(f"{pixels.size} bytes where {size} are needed")
        pixels = pixels[:size].reshape(down, across, directory.samples)
        if directory.predictor == 2:
            pixels = np.cumsum(pixels, axis=1, dtype=np.uint8)
        return pixels

    return decode
