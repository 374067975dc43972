"""Reads tiled TIFF and DICOM slides directly from their files."""

import os
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np

from mcti.slides import decoding, pyramid, tiff
from mcti.slides.decoding import Pixels
from mcti.slides.frames import FrameLevel
from mcti.slides.reader import WHITE, ClosingReader, Level, from_finer, smaller
from mcti.slides.status import RegionError

_CACHE_BYTES = 192 << 20


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
        self._lock = threading.Lock()
        self._tiles: OrderedDict[tuple[int, int, int], Pixels | RegionError] = OrderedDict()
        self._cached_bytes = 0

    def close(self) -> None:
        """Close the file."""
        self._tiles.clear()
        for descriptor in set(self._files):
            os.close(descriptor)

    def _select_levels(self, directories: list[tiff.Directory]) -> list[tiff.Directory]:
        """The levels among the directories of the file."""
        return pyramid.levels(directories)

    def _open_levels(self, path: Path) -> list[int]:
        """The open file of each level."""
        return [os.open(path, os.O_RDONLY)] * len(self._pages)

    def read(self, level: int, x: int, y: int, width: int, height: int, shrink: int = 1) -> Pixels:
        """See Reader. Where the codec supports it, a smaller region is decoded small: half the work, less memory."""
        if shrink == 1:
            return self._region(level, x, y, width, height, 1)
        if not decoding.shrinks(self._pages[level], shrink):
            return smaller(self._region(level, x, y, width, height, 1), shrink)
        return self._region(level, x // shrink, y // shrink, width // shrink, height // shrink, shrink)

    def _region(self, level: int, x: int, y: int, width: int, height: int, shrink: int) -> Pixels:
        """The region in pixels of the level made `shrink` times smaller."""
        page = self.levels[level]
        across, down = page.tile[0] // shrink, page.tile[1] // shrink
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, -(-page.width // shrink)), min(y + height, -(-page.height // shrink))
        inside = left == x and top == y and right == x + width and bottom == y + height
        if inside and (width, height) == (across, down) and not (x % across or y % down):
            return self._tile(level, x // across, y // down, shrink)  # the cached array, therefore read-only
        region = np.empty((height, width, 3), np.uint8) if inside else np.full((height, width, 3), WHITE, np.uint8)
        for row in range(top // down, -(-bottom // down)):
            y0, y1 = max(top, row * down), min(bottom, (row + 1) * down)
            for column in range(left // across, -(-right // across)):
                x0, x1 = max(left, column * across), min(right, (column + 1) * across)
                tile = self._tile(level, column, row, shrink)
                region[y0 - y : y1 - y, x0 - x : x1 - x] = tile[
                    y0 - row * down : y1 - row * down, x0 - column * across : x1 - column * across
                ]
        return region

    def _tile(self, level: int, column: int, row: int, shrink: int = 1) -> Pixels:
        index = row * self._columns[level] + column
        key = (level, index, shrink)
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None:
                self._tiles.move_to_end(key)
        if tile is None:
            tile = self._decode(level, column, row, shrink)
            if not isinstance(tile, RegionError):
                tile.flags.writeable = False
            self._cache(key, tile)
        if isinstance(tile, RegionError):
            raise RegionError(str(tile))
        return tile

    def _cache(self, key: tuple[int, int, int], tile: Pixels | RegionError) -> None:
        """Keep the tiles of four rows of the level, at most 192 MiB: reading row by row then decodes each tile once."""
        level, _, shrink = key
        across, down = self.levels[level].tile
        row = (self._columns[level] + 2) * (across // shrink) * (down // shrink) * 3
        with self._lock:
            if key not in self._tiles:  # another thread may have decoded it in the meantime
                self._cached_bytes += _bytes(tile)
            self._tiles[key] = tile
            while self._cached_bytes > min(4 * row, _CACHE_BYTES) and len(self._tiles) > 4:
                self._cached_bytes -= _bytes(self._tiles.popitem(last=False)[1])

    def _decode(self, level: int, column: int, row: int, shrink: int) -> Pixels | RegionError:
        stride, planes = self._strides[level]
        indices = [row * self._columns[level] + column + i * stride for i in range(planes)]
        if not level and not any(self._tables[level][1][i] for i in indices):
            return self._blank(shrink)
        try:
            return self._decoder(level, shrink)([self._read_bytes(level, i) for i in indices])
        except (RegionError, OSError) as error:
            if level:  # some scanners leave gaps in lower levels; OpenSlide fills them from the finer level, too
                return self._from_finer(level, column, row, shrink)
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

    def _from_finer(self, level: int, column: int, row: int, shrink: int) -> Pixels | RegionError:
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


def _bytes(tile: Pixels | RegionError) -> int:
    return 0 if isinstance(tile, RegionError) else tile.nbytes
