"""The bytes of one TIFF tile to pixels, never more of them than the directory claims."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcti.slides.status import RegionError, SlideError, Status
from mcti.slides.tiff import Directory

Pixels = NDArray[np.uint8]
Decode = Callable[[list[bytes]], Pixels]
"""From a tile's pieces to (tile height, tile width, 3) uint8 RGB; it raises RegionError."""

_JPEG, _JPEG2000_YCC = 7, 33003
_JPEG2000 = (_JPEG2000_YCC, 33004, 33005, 34712)  # Aperio's two, Bio-Formats' and the registered one
_HOLE = bytes(1024)
_RAW = {1: "none", 5: "lzw", 8: "deflate", 32946: "deflate", 32773: "packbits", 50000: "zstandard"}
NAMES = {**_RAW, _JPEG: "jpeg", **dict.fromkeys(_JPEG2000, "jpeg2000")}
"""TIFF's compression numbers that the direct reader knows."""


def check(directory: Directory) -> None:
    """Raise a SlideError when the direct reader has no way to read this picture."""
    if directory.bits != 8 or directory.samples not in (3, 4) or directory.photometric not in (2, 6):
        raise SlideError(
            Status.NOT_HE,
            f"{directory.samples} samples of {directory.bits or 'unlike'} bits: not an RGB picture of a stained slide",
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
        raise SlideError(Status.UNSUPPORTED_FORMAT, "planes of YCbCr or of JPEG 2000")


def planes(directory: Directory) -> int:
    """How many pieces of the file make one tile: one, or one a sample."""
    return directory.samples if directory.planar == 2 else 1


def shrinks(directory: Directory, shrink: int) -> bool:
    """Whether tiles can be decoded `shrink` times smaller (2, 4, 8).

    JPEG's blocks of 8 x 8 pixels can: of their frequencies only the low ones are turned back. On a real slide half
    the size lies within 0.4 grey levels of the mean over 2 x 2 pixels, in the mean (tests/slides/test_reader.py).
    """
    return directory.compression == _JPEG and not any(edge % shrink for edge in directory.tile)


def decoder(directory: Directory, shrink: int = 1) -> Decode:
    """The function that decodes a picture's tiles, `shrink` times smaller where `shrinks` says so."""
    check(directory)
    across, down = (edge // shrink for edge in directory.tile)
    decode = _jpeg(directory, shrink) if directory.compression == _JPEG else _codec(directory)
    samples = _together(directory)

    def guarded(pieces: list[bytes]) -> Pixels:
        try:
            parts = [decode(piece) for piece in pieces]
        except (RuntimeError, ValueError, IndexError, TypeError, MemoryError) as error:
            raise RegionError(f"a tile that does not decode ({error or type(error).__name__})") from error
        for part in parts:
            if part.shape[:2] != (down, across) or part.dtype != np.uint8 or part.shape[2:] != (samples,):
                raise RegionError(f"a tile of {part.shape[1::-1]} px where {across}x{down} is claimed")
        return _on_white(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2), directory.extra_sample)

    return guarded


def _on_white(pixels: Pixels, extra_sample: int) -> Pixels:
    """RGB as it is; RGBA laid over white, as the other readers lay it (TIFF 6.0, ExtraSamples).

    A fourth sample of no stated meaning is alpha for libtiff, and so here; but where it is zero all over a tile that
    has colours, it is padding.
    """
    if pixels.shape[2] == 3:
        return pixels
    colours, alpha = pixels[:, :, :3], pixels[:, :, 3:]
    if alpha.min() == 255 or (not extra_sample and not alpha.any() and colours.any()):
        return np.ascontiguousarray(colours)
    if extra_sample != 2:  # the colours are multiplied with it
        return (colours.astype(np.uint16) + (255 - alpha)).clip(0, 255).astype(np.uint8)
    blend = colours.astype(np.uint16) * alpha + np.uint16(255) * (255 - alpha.astype(np.uint16))
    return ((blend + 127) // 255).astype(np.uint8)


def _together(directory: Directory) -> int:
    """Samples in one piece of a tile."""
    return directory.samples // planes(directory)


def _codec(directory: Directory) -> Callable[[bytes], Pixels]:
    if directory.compression in _JPEG2000:
        return _jpeg2000(directory)
    return _raw(directory)


def _jpeg(directory: Directory, shrink: int) -> Callable[[bytes], Pixels]:
    """libjpeg-turbo, told to refuse what it would mend in silence: of a tile cut short it fills the rest with grey."""
    from simplejpeg import decode_jpeg

    size, components = directory.tile, _together(directory)
    # Of libjpeg's scales simplejpeg takes the smallest that gives this size: the tile's own, or exactly its share.
    across, down = (edge // shrink for edge in size)
    tables = directory.jpeg_tables or b""
    shared = tables[2:-2] if tables[-2:] == b"\xff\xd9" else tables[2:]
    # Aperio writes RGB without a marker that says so: the directory decides, as in libtiff.
    colours = _adobe(1 if directory.photometric == 6 else 0) if components == 3 else b""

    def decode(data: bytes) -> Pixels:
        own, scan = _jpeg_head(data, size, components)
        whole = b"".join((b"\xff\xd8", shared, own, colours, scan))
        colour = "GRAY" if components == 1 else "RGB"
        pixels: Pixels = decode_jpeg(whole, colour, min_height=down, min_width=across, min_factor=1, strict=True)
        return pixels

    return decode


def _adobe(transform: int) -> bytes:
    """The segment that tells libjpeg the colours: 0 RGB, 1 YCbCr."""
    return b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])


def jpeg_colours(data: bytes, stated: int) -> int:
    """The colours of a JPEG stream as libjpeg finds them, 2 RGB or 6 YCbCr; `stated` where the stream does not say.

    A JFIF segment means YCbCr, an Adobe segment states the transform. DICOM's PhotometricInterpretation must say the
    same, but some converters write RGB above streams of YCbCr.
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        size = data[at + 2] << 8 | data[at + 3]
        segment = data[at + 4 : at + 2 + size]
        if data[at + 1] == 0xE0 and segment.startswith(b"JFIF"):
            return 6
        if data[at + 1] == 0xEE and segment.startswith(b"Adobe") and len(segment) >= 12:
            return 6 if segment[11] else 2
        at += 2 + size
    return stated


def _jpeg_head(data: bytes, size: tuple[int, int], components: int) -> tuple[bytes, bytes]:
    """The tables and the frame header of a stream, and all from its first scan on (ISO 10918-1, B.1 and B.2).

    The frame is judged before anything is decoded: a small tile may claim 65535 x 65535. Application segments stay
    behind: they could tell other colours than the directory.
    """
    kept: list[bytes] = []
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == 0xDA:
            return b"".join(kept), data[at:]
        end = at + 2 + (data[at + 2] << 8 | data[at + 3])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            claimed = (data[at + 7] << 8 | data[at + 8], data[at + 5] << 8 | data[at + 6])
            if claimed != size or data[at + 9] != components:
                raise ValueError(f"its own header says {claimed} px, {data[at + 9]} components")
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(data[at:end])
        at = end
    raise ValueError("no scan")


def _jpeg2000(directory: Directory) -> Callable[[bytes], Pixels]:
    from imagecodecs import jpeg2k_decode

    size, components = directory.tile, directory.samples

    def decode(data: bytes) -> Pixels:
        _check_code_stream(data, size, components)
        pixels: Pixels = jpeg2k_decode(data)
        return _rgb_of_ycc(pixels) if directory.compression == _JPEG2000_YCC else pixels

    return decode


def _check_code_stream(data: bytes, size: tuple[int, int], components: int) -> None:
    """Refuse a stream that claims another picture, is cut short or has a hole (ISO 15444-1, A.4.2, A.5.1).

    JPEG 2000 carries no checksum and its decoders paint whatever the bytes give; what lost blocks of a disk leave,
    a missing end or a run of zeros that no arithmetic coder writes, shows before decoding.
    """
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(data) < start + 42:
        raise ValueError("no code stream")
    right, bottom, left, top = (int.from_bytes(data[start + i : start + i + 4], "big") for i in (8, 12, 16, 20))
    count = int.from_bytes(data[start + 40 : start + 42], "big")
    if (right - left, bottom - top) != size or count != components:
        raise ValueError(f"its own header says {(right - left, bottom - top)} px, {count} components")
    at = data.find(b"\xff\x90\x00\x0a", start)
    while at >= 0 and data[at : at + 2] == b"\xff\x90":  # tile-part after tile-part
        length = int.from_bytes(data[at + 6 : at + 10], "big")
        if at + length > len(data):
            raise ValueError("its end is missing")
        at = at + length if length else -1
    if _HOLE in data:
        raise ValueError("a hole in its bytes")


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
    samples = _together(directory)
    size = across * down * samples
    unpack: dict[str, Callable[[bytes], Any]] = {
        "none": lambda data: data,
        "lzw": lambda data: imagecodecs.lzw_decode(data, out=size),
        "deflate": lambda data: imagecodecs.zlib_decode(data, out=size),
        "packbits": lambda data: imagecodecs.packbits_decode(data, out=size),
        "zstandard": lambda data: imagecodecs.zstd_decode(data, out=size),
    }
    stream = unpack[_RAW[directory.compression]]

    def decode(data: bytes) -> Pixels:
        pixels = np.frombuffer(stream(data), np.uint8)
        if pixels.size < size:
            raise ValueError(f"{pixels.size} bytes where {size} are needed")
        pixels = pixels[:size].reshape(down, across, samples)
        if directory.predictor == 2:
            pixels = np.cumsum(pixels, axis=1, dtype=np.uint8)
        return pixels

    return decode
