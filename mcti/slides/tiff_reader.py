"""Reads tiled TIFF and DICOM slides directly from their files."""

import os
from pathlib import Path

import numpy as np

from mcti.slides import decoding, pyramid, tiff
from mcti.slides.decoding import Pixels
from mcti.slides.frames import FrameLevel
from mcti.slides.reader import WHITE, ClosingReader, Level, from_finer, smaller
from mcti.slides.status import RegionError
from mcti.slides.tile_cache import Key, TileCache


class TiffReader(ClosingReader):
    """Reads the stored tiles directly; the pixels are identical to those of OpenSlide."""

    name = "tiff"

    def __init__(self, path: Path, directories: list[tiff.Directory]) -> None:
        self._pages = self._select_levels(directories)
        self._decoders = [decoding.decoder(page) for page in self._pages]
        self._tables = [(page.offsets, page.counts) for page in self._pages]
        self._columns = [page.grid[0] for page in self._pages]
        # Distance of a tile's planes in the tables (the number of tiles of the grid), and number of planes.
        self._strides = [(page.grid[0] * page.grid[1], decoding.planes(page)) for page in self._pages]
        first = self._pages[0]
        self.levels = [Level.from_size((p.width, p.height), (first.width, first.height), p.tile) for p in self._pages]
        self._small: dict[tuple[int, int], decoding.Decode] = {}
        self._files = self._open_levels(path)
        self._cache = TileCache()

    def close(self) -> None:
        """Close the file."""
        self._cache.clear()
        for descriptor in set(self._files):
            os.close(descriptor)

    def _select_levels(self, directories: list[tiff.Directory]) -> list[tiff.Directory]:
        """The levels among the directories of the file."""
        return pyramid.levels(directories)

    def _open_levels(self, path: Path) -> list[int]:
        """The open file of each level."""
        return [os.open(path, os.O_RDONLY)] * len(self._pages)

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
        """See Reader. Where the codec supports it, a smaller region is decoded small: half the work, less memory."""
        if shrink > 1 and not decoding.shrinks(self._pages[level], shrink):
            return smaller(self._region(level, (x, y, width, height), 1, keep, None), shrink)
        box = (x // shrink, y // shrink, width // shrink, height // shrink)
        return self._region(level, box, shrink, keep, buffer)

    def _region(
        self, level: int, box: tuple[int, int, int, int], shrink: int, keep: bool, buffer: Pixels | None
    ) -> Pixels:
        """The region (x, y, width, height) in pixels of the level made `shrink` times smaller."""
        x, y, width, height = box
        page, (across, down) = self.levels[level], self._tile_size(level, shrink)
        columns, grid_columns = _spans(x, width, across, -(-page.width // shrink)), self._columns[level]
        rows = _spans(y, height, down, -(-page.height // shrink))
        inside = _length(columns) == width and _length(rows) == height
        if inside and len(columns) == len(rows) == 1 and (width, height) == (across, down):
            return self._tile((level, rows[0][0] * grid_columns + columns[0][0], shrink), keep, buffer)
        region = np.empty((height, width, 3), np.uint8) if buffer is None else buffer
        if not inside:
            region[:] = WHITE
        for row, y_target, y_source, last_row in rows:
            for column, x_target, x_source, last_column in columns:
                used_up = last_row and last_column and not keep
                tile = self._tile((level, row * grid_columns + column, shrink), not used_up)
                region[y_target, x_target] = tile[y_source, x_source]
                if used_up:
                    self._cache.release(tile)
        return region

    def _tile(self, key: Key, keep: bool, buffer: Pixels | None = None) -> Pixels:
        """A stored tile: read-only when it is in the cache. With `keep` it stays there, otherwise it leaves it."""
        tile = self._cache.get(key, last=not keep)
        if tile is None:
            tile = self._decode(key, None if keep else buffer)
            if keep or isinstance(tile, RegionError):
                self._cache.put(key, tile, self._four_rows(key))
        if isinstance(tile, RegionError):
            raise RegionError(str(tile))
        return tile

    def _four_rows(self, key: Key) -> int:
        """Bytes of four rows of tiles of a level: reading row by row then decodes each tile once."""
        level, _, shrink = key
        across, down = self._tile_size(level, shrink)
        return 4 * (self._columns[level] + 2) * across * down * 3

    def _tile_size(self, level: int, shrink: int) -> tuple[int, int]:
        across, down = self.levels[level].tile
        return across // shrink, down // shrink

    def _decode(self, key: Key, buffer: Pixels | None) -> Pixels | RegionError:
        level, index, shrink = key
        stride, planes = self._strides[level]
        indices = [index + i * stride for i in range(planes)]
        if not level and not any(self._tables[level][1][i] for i in indices):
            return self._blank(shrink)
        across, down = self._tile_size(level, shrink)
        buffer = self._cache.empty((down, across, 3)) if buffer is None else buffer
        try:
            return self._decoder(level, shrink)([self._read_bytes(level, i) for i in indices], buffer)
        except (RegionError, OSError) as error:
            if level:  # some scanners leave gaps in lower levels; OpenSlide fills them from the finer level, too
                return self._from_finer(level, index, shrink)
            return RegionError(str(error))

    def _decoder(self, level: int, shrink: int) -> decoding.Decode:
        if shrink == 1:
            return self._decoders[level]
        if (level, shrink) not in self._small:
            self._small[level, shrink] = decoding.decoder(self._pages[level], shrink)
        return self._small[level, shrink]

    def _blank(self, shrink: int) -> Pixels:
        """A tile of length 0, which scanners write for glass: white background, as in OpenSlide, so never tissue."""
        across, down = self.levels[0].tile
        return np.full((down // shrink, across // shrink, 3), WHITE, np.uint8)

    def _read_bytes(self, level: int, index: int) -> bytes:
        offset, count = int(self._tables[level][0][index]), int(self._tables[level][1][index])
        if not count:
            raise RegionError("a tile without data")
        return os.pread(self._files[level], count, offset)

    def _from_finer(self, level: int, index: int, shrink: int) -> Pixels | RegionError:
        row, column = divmod(index, self._columns[level])
        across, down = self.levels[level].tile
        try:
            return from_finer(self, level, column * across, row * down, across, down, shrink)
        except RegionError as error:
            return error


class DicomReader(TiffReader):
    """Reads the stored frames of a DICOM series directly, one file per level."""

    name = "dicom"

    def __init__(self, levels: list[FrameLevel]) -> None:
        self._paths = [level.path for level in levels]
        super().__init__(self._paths[0], [level.directory for level in levels])

    def _select_levels(self, directories: list[tiff.Directory]) -> list[tiff.Directory]:
        return directories

    def _open_levels(self, path: Path) -> list[int]:  # noqa: ARG002 (each level has its own file)
        return [os.open(each, os.O_RDONLY) for each in self._paths]


_Span = tuple[int, slice, slice, bool]
"""Common pixels of a region and a tile along one axis: number of the tile, where they are in the region and in the
tile, and whether they include the last pixel of the tile that belongs to the picture."""


def _spans(start: int, length: int, edge: int, size: int) -> list[_Span]:
    """The tiles of `edge` px of a picture of `size` px in the region of `length` px from `start`, along one axis."""
    first, last = max(start, 0), min(start + length, size)
    spans = []
    for origin in range(first // edge * edge, last, edge):
        stop = min(origin + edge, size)
        begin, end = max(first, origin), min(last, stop)
        target, source = slice(begin - start, end - start), slice(begin - origin, end - origin)
        spans.append((origin // edge, target, source, end == stop))
    return spans


def _length(spans: list[_Span]) -> int:
    """Pixels of the region that the tiles cover."""
    return spans[-1][1].stop - spans[0][1].start if spans else 0
