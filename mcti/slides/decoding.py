"""Decodes the bytes of one TIFF tile to pixels, never more pixels than the directory states."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcti.slides.status import RegionError, SlideError, Status
from mcti.slides.tiff import Directory

Pixels = NDArray[np.uint8]
Decode = Callable[[list[bytes], Pixels | None], Pixels]
"""From the byte strings of a tile to (tile height, tile width, 3) uint8 RGB, in memory for the result if that is given.

Codecs that cannot use the memory return another array. Raises RegionError.
"""

_DecodePiece = Callable[[bytes, Pixels | None], Pixels]

_JPEG, _JPEG2000_YCC = 7, 33003
_JPEG2000 = (_JPEG2000_YCC, 33004, 33005, 34712)  # two of Aperio, one of Bio-Formats, the registered one
_ZERO_RUN = bytes(1024)
_RAW = {1: "none", 5: "lzw", 8: "deflate", 32946: "deflate", 32773: "packbits", 50000: "zstandard"}
NAMES = {**_RAW, _JPEG: "jpeg", **dict.fromkeys(_JPEG2000, "jpeg2000")}
"""TIFF compression numbers that the direct reader supports."""


def check(directory: Directory) -> None:
    """Refuse a picture that the direct reader does not support.

    Raises SlideError with the status NOT_HE, UNSUPPORTED_COMPRESSION or UNSUPPORTED_FORMAT.
    """
    if directory.bits != 8 or directory.samples not in (3, 4) or directory.photometric not in (2, 6):
        raise SlideError(
            Status.NOT_HE,
            f"{directory.samples} samples of {directory.bits or 'different'} bits: no RGB picture of a stained slide",
        )
    if directory.compression not in NAMES:
        raise SlideError(
            Status.UNSUPPORTED_COMPRESSION,
            f"compression {directory.compression}",
            "convert the slide to JPEG tiles, e.g. with vips tiffsave",
        )
    if directory.photometric == 6 and directory.compression in _RAW:
        raise SlideError(Status.UNSUPPORTED_FORMAT, "YCbCr samples without JPEG")
    if directory.planar != 1 and (directory.photometric == 6 or directory.compression in _JPEG2000):
        raise SlideError(Status.UNSUPPORTED_FORMAT, "separate planes of YCbCr or JPEG 2000")


def planes(directory: Directory) -> int:
    """Number of byte strings per tile: one, or one per sample."""
    return directory.samples if directory.planar == 2 else 1


def shrinks(directory: Directory, shrink: int) -> bool:
    """Whether tiles can be decoded `shrink` times smaller (2, 4, 8).

    JPEG can: only the low frequencies of its blocks of 8 x 8 pixels are transformed. On a real slide, half the size
    differs from the mean over 2 x 2 pixels by 0.4 grey levels on average (tests/slides/test_reader.py).
    """
    return directory.compression == _JPEG and not any(edge % shrink for edge in directory.tile)


def decoder(directory: Directory, shrink: int = 1) -> Decode:
    """The function that decodes the tiles of a picture, `shrink` times smaller; only where `shrinks` is true.

    Raises SlideError when the direct reader does not support the picture.
    """
    check(directory)
    across, down = (edge // shrink for edge in directory.tile)
    decode = _jpeg(directory, shrink) if directory.compression == _JPEG else _codec(directory)
    samples = _samples_per_piece(directory)

    def decode_tile(pieces: list[bytes], buffer: Pixels | None = None) -> Pixels:
        usable = buffer if samples == 3 else None
        try:
            planes = [decode(piece, usable) for piece in pieces]
        except (RuntimeError, ValueError, IndexError, TypeError, MemoryError) as error:
            raise RegionError(f"a tile does not decode ({error or type(error).__name__})") from error
        for plane in planes:
            if plane.shape[:2] != (down, across) or plane.dtype != np.uint8 or plane.shape[2:] != (samples,):
                raise RegionError(f"a tile has {plane.shape[1::-1]} px, the directory states {across}x{down}")
        return _on_white(planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2), directory.extra_sample)

    return decode_tile


def _on_white(pixels: Pixels, extra_sample: int) -> Pixels:
    """RGB unchanged; RGBA composited over white, as in the other readers (TIFF 6.0, ExtraSamples).

    A fourth sample without a stated meaning is alpha, as in libtiff. Where it is zero in a whole tile that has colours,
    it is padding.
    """
    if pixels.shape[2] == 3:
        return pixels
    colours, alpha = pixels[:, :, :3], pixels[:, :, 3:]
    if alpha.min() == 255 or (not extra_sample and not alpha.any() and colours.any()):
        return np.ascontiguousarray(colours)
    if extra_sample != 2:  # the colours are premultiplied
        return (colours.astype(np.uint16) + (255 - alpha)).clip(0, 255).astype(np.uint8)
    blend = colours.astype(np.uint16) * alpha + np.uint16(255) * (255 - alpha.astype(np.uint16))
    return ((blend + 127) // 255).astype(np.uint8)


def _samples_per_piece(directory: Directory) -> int:
    """Samples in one byte string of a tile."""
    return directory.samples // planes(directory)


def _codec(directory: Directory) -> _DecodePiece:
    if directory.compression in _JPEG2000:
        return _jpeg2000(directory)
    return _raw(directory)


def _jpeg(directory: Directory, shrink: int) -> _DecodePiece:
    """libjpeg-turbo in strict mode; otherwise it fills the missing part of a truncated tile with grey."""
    from simplejpeg import decode_jpeg

    size, components = directory.tile, _samples_per_piece(directory)
    # simplejpeg uses the smallest of libjpeg's scales that gives this size: full size, or exactly the shrunk size.
    across, down = (edge // shrink for edge in size)
    stored = directory.jpeg_tables or b""
    shared = stored[2:-2] if stored[-2:] == b"\xff\xd9" else stored[2:]
    # Aperio writes RGB without a marker: the directory decides, as in libtiff.
    colours = _adobe(1 if directory.photometric == 6 else 0) if components == 3 else b""

    def decode(data: bytes, buffer: Pixels | None) -> Pixels:
        tables, scan = _jpeg_head(data, size, components)
        stream = b"".join((b"\xff\xd8", shared, tables, colours, scan))
        colour = "GRAY" if components == 1 else "RGB"
        options = {"min_height": down, "min_width": across, "min_factor": 1, "buffer": buffer, "strict": True}
        pixels: Pixels = decode_jpeg(stream, colour, **options)
        return pixels if buffer is None or pixels.shape != buffer.shape else buffer  # the same memory, without a view

    return decode


def _adobe(transform: int) -> bytes:
    """The Adobe segment that states the colour space for libjpeg: 0 RGB, 1 YCbCr."""
    return b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])


def jpeg_colours(data: bytes, stated: int) -> int:
    """The colour space of a JPEG stream as libjpeg determines it, 2 RGB or 6 YCbCr; `stated` without a marker.

    A JFIF segment means YCbCr, an Adobe segment states the transform. DICOM's PhotometricInterpretation must agree, but
    some converters state RGB for streams of YCbCr.
    """
    offset = 2
    while offset + 4 <= len(data) and data[offset] == 0xFF and data[offset + 1] != 0xDA:
        size = data[offset + 2] << 8 | data[offset + 3]
        segment = data[offset + 4 : offset + 2 + size]
        if data[offset + 1] == 0xE0 and segment.startswith(b"JFIF"):
            return 6
        if data[offset + 1] == 0xEE and segment.startswith(b"Adobe") and len(segment) >= 12:
            return 6 if segment[11] else 2
        offset += 2 + size
    return stated


def _jpeg_head(data: bytes, size: tuple[int, int], components: int) -> tuple[bytes, bytes]:
    """The tables and frame header of a stream, and its bytes from the first scan (ISO 10918-1, B.1 and B.2).

    The frame size is checked before decoding: a small tile may state 65535 x 65535 px. Application segments are
    dropped: they could state another colour space than the directory.
    """
    segments: list[bytes] = []
    offset = 2
    while offset + 4 <= len(data) and data[offset] == 0xFF:
        marker = data[offset + 1]
        if marker == 0xFF:  # a fill byte
            offset += 1
            continue
        if marker == 0xDA:
            return b"".join(segments), data[offset:]
        end = offset + 2 + (data[offset + 2] << 8 | data[offset + 3])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = (data[offset + 7] << 8 | data[offset + 8], data[offset + 5] << 8 | data[offset + 6])
            if frame != size or data[offset + 9] != components:
                raise ValueError(f"its header states {frame} px, {data[offset + 9]} components")
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            segments.append(data[offset:end])
        offset = end
    raise ValueError("no scan")


def _jpeg2000(directory: Directory) -> _DecodePiece:
    from imagecodecs import jpeg2k_decode

    size, components = directory.tile, directory.samples

    def decode(data: bytes, _: Pixels | None) -> Pixels:
        _check_code_stream(data, size, components)
        pixels: Pixels = jpeg2k_decode(data)
        return _rgb_of_ycc(pixels) if directory.compression == _JPEG2000_YCC else pixels

    return decode


def _check_code_stream(data: bytes, size: tuple[int, int], components: int) -> None:
    """Refuse a stream of another size, a truncated one, or one with a run of zeros (ISO 15444-1, A.4.2, A.5.1).

    JPEG 2000 has no checksum, and its decoders return pixels for damaged bytes. Lost disk blocks show before decoding:
    as a missing end, or as a run of zeros that no arithmetic coder writes.
    """
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(data) < start + 42:
        raise ValueError("no code stream")
    right, bottom, left, top = (int.from_bytes(data[start + i : start + i + 4], "big") for i in (8, 12, 16, 20))
    count = int.from_bytes(data[start + 40 : start + 42], "big")
    if (right - left, bottom - top) != size or count != components:
        raise ValueError(f"its header states {(right - left, bottom - top)} px, {count} components")
    offset = data.find(b"\xff\x90\x00\x0a", start)
    while offset >= 0 and data[offset : offset + 2] == b"\xff\x90":  # one tile-part after the other
        length = int.from_bytes(data[offset + 6 : offset + 10], "big")
        if offset + length > len(data):
            raise ValueError("its end is missing")
        offset = offset + length if length else -1
    if _ZERO_RUN in data:
        raise ValueError("a run of zero bytes")


def _rgb_of_ycc(pixels: Pixels) -> Pixels:
    """Full-range YCbCr to RGB (JFIF 1.02) with coefficients of five digits in 16-bit fixed point.

    With six digits, green differs from OpenSlide's in one pixel of three thousand; with five digits, in none.
    """
    y, cb, cr = pixels[:, :, 0].astype(np.int32), pixels[:, :, 1], pixels[:, :, 2]
    unit, half = 1 << 16, 1 << 15
    centred = np.arange(256) - 128
    red, blue = 91881 * centred, 116130 * centred  # 1.402 and 1.772
    green_b, green_r = (np.rint(factor * unit * centred).astype(np.int64) for factor in (-0.34414, -0.71414))
    planes = [
        y + ((red[cr] + half) >> 16),
        y + ((green_b[cb] + green_r[cr] + half) >> 16),
        y + ((blue[cb] + half) >> 16),
    ]
    return np.stack(planes, axis=2).clip(0, 255).astype(np.uint8)


def _raw(directory: Directory) -> _DecodePiece:
    import imagecodecs

    across, down = directory.tile
    samples = _samples_per_piece(directory)
    size = across * down * samples
    unpack: dict[str, Callable[[bytes], Any]] = {
        "none": lambda data: data,
        "lzw": lambda data: imagecodecs.lzw_decode(data, out=size),
        "deflate": lambda data: imagecodecs.zlib_decode(data, out=size),
        "packbits": lambda data: imagecodecs.packbits_decode(data, out=size),
        "zstandard": lambda data: imagecodecs.zstd_decode(data, out=size),
    }
    stream = unpack[_RAW[directory.compression]]

    def decode(data: bytes, _: Pixels | None) -> Pixels:
        pixels = np.frombuffer(stream(data), np.uint8)
        if pixels.size < size:
            raise ValueError(f"{pixels.size} bytes, {size} are needed")
        pixels = pixels[:size].reshape(down, across, samples)
        if directory.predictor == 2:
            pixels = np.cumsum(pixels, axis=1, dtype=np.uint8)
        return pixels

    return decode
