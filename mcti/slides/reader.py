"""The interface of the slide readers, and helpers that they share.

The readers are in tiff_reader.py (tiled TIFF and DICOM), openslide_reader.py (other formats) and flat_reader.py (plain
pictures). `read(level, x, y, width, height)` takes pixels of that level and returns RGB uint8 (height, width, 3), white
outside of the picture. It raises RegionError for a region that does not decode. With `shrink` the region is returned
that many times smaller. Readers may be used from several threads at once.
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from mcti.slides.decoding import Pixels

WHITE = 255


@dataclass(frozen=True)
class Level:
    """One resolution of a slide. width, height and tile in pixels of the level.

    downsample  level-0 pixels per pixel, across and down
    exact       whether every reader returns the level's stored pixels at every position, so that tiles can come from
                it. OpenSlide addresses a level in level-0 pixels: with a downsample that is no whole number (odd sizes,
                2.0005) it blends neighbouring pixels, by an amount that depends on the position. A level of at most
                4096 px is exact nevertheless, because OpenSlide reads it from its origin in one piece.
    """

    width: int
    height: int
    downsample: tuple[float, float]
    tile: tuple[int, int]
    exact: bool = True

    @classmethod
    def from_size(cls, size: tuple[int, int], finest: tuple[int, int], tile: tuple[int, int]) -> "Level":
        """The level of `size` (width, height) of a slide whose finest level has size `finest`."""
        downsample = (finest[0] / size[0], finest[1] / size[1])
        exact = is_whole(sum(downsample) / 2, max(size)) or max(size) <= ONE_PIECE
        return cls(*size, downsample, tile, exact)


ONE_PIECE = 4096
"""Edge in pixels up to which OpenSlide 4 reads a level in one piece; a second piece would begin between two pixels."""


def is_whole(downsample: float, edge: int) -> bool:
    """Whether all pixels of a level of `edge` px begin on whole level-0 pixels, within 1/512 of a pixel."""
    return abs(downsample - round(downsample)) * edge < downsample / 512


class Reader(Protocol):
    """The interface of every reader."""

    name: str
    levels: list[Level]

    def read(
        self,
        level: int,
        x: int,
        y: int,
        width: int,
        height: int,
        shrink: int = 1,
        *,
        keep: bool = False,
        buffer: Pixels | None = None,
    ) -> Pixels:
        """The region as RGB (height, width, 3), white outside of the picture; RegionError when it does not decode.

        shrink  1, 2, 4 or 8; x, y, width and height must be multiples of it; the result is that many times smaller
        keep    whether other regions overlap this one, so that its stored tiles are needed again
        buffer  memory of the result's shape, which the result may use: new memory costs as much time as a copy
        The array may be read-only, because it may be a tile of the cache.
        """

    def close(self) -> None:
        """Close the file."""


class ClosingReader:
    """Base of the readers: a context manager that closes the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        raise NotImplementedError


def from_finer(reader: Reader, level: int, x: int, y: int, width: int, height: int, shrink: int = 1) -> Pixels:
    """A region of a level, computed from the next finer level by area averaging."""
    import cv2

    coarse, finer = reader.levels[level], reader.levels[level - 1]
    fx, fy = (c / f for c, f in zip(coarse.downsample, finer.downsample, strict=True))
    box = [round(v) for v in (x * fx, y * fy, width * fx, height * fy)]
    picture = reader.read(level - 1, box[0], box[1], max(box[2], 1), max(box[3], 1))
    return np.asarray(cv2.resize(picture, (width // shrink, height // shrink), interpolation=cv2.INTER_AREA), np.uint8)


def cut(picture: Pixels, x: int, y: int, width: int, height: int) -> Pixels:
    """A region (height, width, 3) of a picture (h, w, 3), white outside of it."""
    region = np.full((height, width, 3), WHITE, np.uint8)
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + width, picture.shape[1]), min(y + height, picture.shape[0])
    if right > left and bottom > top:
        region[top - y : bottom - y, left - x : right - x] = picture[top:bottom, left:right]
    return region


def smaller(picture: Pixels, shrink: int) -> Pixels:
    """A picture (h, w, 3), `shrink` times smaller by area averaging."""
    import cv2

    if shrink == 1:
        return picture
    size = (picture.shape[1] // shrink, picture.shape[0] // shrink)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def on_white(picture: Pixels, buffer: Pixels | None = None) -> Pixels:
    """RGBA (h, w, 4) composited over white, (h, w, 3), in the memory of `buffer` (h, w, 3) if possible."""
    alpha = picture[:, :, 3:]
    if alpha.min(initial=WHITE) == WHITE:
        if buffer is None:
            return np.ascontiguousarray(picture[:, :, :3])
        buffer[:] = picture[:, :, :3]
        return buffer
    blend = picture[:, :, :3].astype(np.uint16) * alpha + np.uint16(WHITE) * (WHITE - alpha.astype(np.uint16))
    return ((blend + 127) // WHITE).astype(np.uint8)
