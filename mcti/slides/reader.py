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
    """One resolution of a slide. `downsample`: level-0 pixels in one of its pixels, across and down.

    `exact`: every reader gives the level's own pixels at every position, so that tiles may come from it. OpenSlide
    addresses a level in level-0 pixels: where its downsample is no whole number (odd sizes, 2.0005) it blends
    neighbours, more at one position than at another. A level of at most 4096 px is exact all the same, since OpenSlide
    paints it from its origin in one piece.
    """

    width: int
    height: int
    downsample: tuple[float, float]
    tile: tuple[int, int]
    exact: bool = True

    @classmethod
    def of(cls, size: tuple[int, int], finest: tuple[int, int], tile: tuple[int, int]) -> "Level":
        """The level of `size` pixels of a slide whose finest level has `finest`."""
        downsample = (finest[0] / size[0], finest[1] / size[1])
        exact = is_whole(sum(downsample) / 2, max(size)) or max(size) <= ONE_PIECE
        return cls(*size, downsample, tile, exact)


ONE_PIECE = 4096
"""Pixels along an edge that OpenSlide 4 paints in one piece; the next piece begins between two pixels."""


def is_whole(downsample: float, edge: int) -> bool:
    """Whether pixel after pixel of a level of `edge` px lies on whole level-0 pixels, within 1/512 of its own."""
    return abs(downsample - round(downsample)) * edge < downsample / 512


class Reader(Protocol):
    """What every reader offers."""

    name: str
    levels: list[Level]

    def read(self, level: int, x: int, y: int, width: int, height: int, shrink: int = 1) -> Pixels:
        """The region as RGB (height, width, 3), white outside of the picture; RegionError when it cannot be read.

        shrink: 1, 2, 4 or 8, of which all four numbers are multiples; the region comes so many times smaller. It may be
        read-only: a tile as it lies in the cache.
        """

    def close(self) -> None:
        """Give the file back."""


class ClosingReader:
    """Base of the readers: a context manager that closes the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        raise NotImplementedError


def from_finer(reader: Reader, level: int, x: int, y: int, width: int, height: int, shrink: int = 1) -> Pixels:
    """A region of a level made from the next finer one, by area."""
    import cv2

    here, finer = reader.levels[level], reader.levels[level - 1]
    fx, fy = (h / f for h, f in zip(here.downsample, finer.downsample, strict=True))
    box = [round(v) for v in (x * fx, y * fy, width * fx, height * fy)]
    picture = reader.read(level - 1, box[0], box[1], max(box[2], 1), max(box[3], 1))
    return np.asarray(cv2.resize(picture, (width // shrink, height // shrink), interpolation=cv2.INTER_AREA), np.uint8)


def cut(picture: Pixels, x: int, y: int, width: int, height: int) -> Pixels:
    """A region (height, width, 3) of a whole picture (h, w, 3), white outside of it."""
    region = np.full((height, width, 3), WHITE, np.uint8)
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + width, picture.shape[1]), min(y + height, picture.shape[0])
    if right > left and bottom > top:
        region[top - y : bottom - y, left - x : right - x] = picture[top:bottom, left:right]
    return region


def smaller(picture: Pixels, shrink: int) -> Pixels:
    """A picture (h, w, 3) `shrink` times smaller, by area."""
    import cv2

    if shrink == 1:
        return picture
    size = (picture.shape[1] // shrink, picture.shape[0] // shrink)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def on_white(picture: Pixels) -> Pixels:
    """RGBA (h, w, 4) laid over white, (h, w, 3)."""
    alpha = picture[:, :, 3:]
    if alpha.min(initial=WHITE) == WHITE:
        return np.ascontiguousarray(picture[:, :, :3])
    blend = picture[:, :, :3].astype(np.uint16) * alpha + np.uint16(WHITE) * (WHITE - alpha.astype(np.uint16))
    return ((blend + 127) // WHITE).astype(np.uint8)
