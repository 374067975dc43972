"""Reads slides with OpenSlide."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mcti.slides.decoding import Pixels
from mcti.slides.reader import ClosingReader, Level, cut, from_finer, is_whole, on_white, smaller
from mcti.slides.status import RegionError, SlideError, Status


class OpenSlideReader(ClosingReader):
    """Reads every format that OpenSlide supports. After a failed read a handle is unusable, so it is opened again."""

    name = "openslide"

    def __init__(self, path: Path) -> None:
        self._path, self._lock, self._picture_lock = path, threading.Lock(), threading.Lock()
        self._slide = self._open()
        properties = dict(self._slide.properties)
        self.properties = properties
        self._openslide_downsamples = tuple(float(downsample) for downsample in self._slide.level_downsamples)
        self._pictures: dict[int, Pixels | None] = {}
        self.levels = [self._level(i) for i in range(self._slide.level_count)]

    def _level(self, i: int) -> Level:
        size, prefix = self._slide.level_dimensions[i], f"openslide.level[{i}].tile-"
        tile = [int(self.properties.get(prefix + name, 256)) for name in ("width", "height")]
        level = Level.from_size(size, self._slide.dimensions, (tile[0], tile[1]))
        return replace(level, exact=True) if self._has_whole_downsample(i, level) else level

    def _has_whole_downsample(self, index: int, level: Level) -> bool:
        """Whether the downsample that OpenSlide uses is a whole number."""
        return is_whole(self._openslide_downsamples[index], max(level.width, level.height))

    def _open(self) -> Any:
        import openslide

        try:
            return openslide.OpenSlide(self._path)
        except openslide.OpenSlideUnsupportedFormatError as error:
            raise SlideError(Status.UNSUPPORTED_FORMAT, "no reader supports this format") from error
        except openslide.OpenSlideError as error:
            unknown = str(error).startswith("Unsupported TIFF compression")
            status = Status.UNSUPPORTED_COMPRESSION if unknown else Status.READ_ERROR
            raise SlideError(status, f"OpenSlide: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._slide.close()

    def read(
        self,
        level: int,
        x: int,
        y: int,
        width: int,
        height: int,
        shrink: int = 1,
        *,
        keep: bool = False,  # noqa: ARG002 (OpenSlide has its own cache)
        buffer: Pixels | None = None,
    ) -> Pixels:
        """See Reader."""
        this_level = self.levels[level]
        whole = buffer if shrink == 1 else None
        if not level or self._has_whole_downsample(level, this_level):
            factor = round(self._openslide_downsamples[level])
            return smaller(self._region(level, (x * factor, y * factor), (width, height), whole), shrink)
        if this_level.exact:
            return smaller(self._from_picture(level, x, y, width, height), shrink)
        corner = (round(x * this_level.downsample[0]), round(y * this_level.downsample[1]))
        return smaller(self._region(level, corner, (width, height), whole), shrink)

    def _region(
        self, level: int, corner: tuple[int, int], size: tuple[int, int], buffer: Pixels | None = None
    ) -> Pixels:
        """A region of a level; `corner` in level-0 pixels, `size` in pixels of the level."""
        import openslide

        try:
            return on_white(np.asarray(self._slide.read_region(corner, level, size)), buffer)
        except openslide.OpenSlideError as error:
            with self._lock:
                self._slide = self._open()
            raise RegionError(f"OpenSlide: {error}") from error

    def _from_picture(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """A region of a small level, cut from the whole level; from the finer level when it does not decode."""
        with self._picture_lock:
            if level not in self._pictures:
                self._pictures[level] = self._picture(level)
            picture = self._pictures[level]
        return from_finer(self, level, x, y, width, height) if picture is None else cut(picture, x, y, width, height)

    def _picture(self, level: int) -> Pixels | None:
        try:
            return self._region(level, (0, 0), (self.levels[level].width, self.levels[level].height))
        except RegionError:
            return None
