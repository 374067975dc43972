"""The decoded tiles of one slide: the least recently used are dropped, and their memory is used again.

New memory costs a third of the time of decoding a tile, because the system maps it page by page.
"""

import sys
import threading
from collections import OrderedDict

import numpy as np

from mcti.slides.decoding import Pixels
from mcti.slides.status import RegionError

Key = tuple[int, int, int]
"""Level, number of the tile in it, and how many times smaller it was decoded."""

_MAX_BYTES = 192 << 20
_MIN_TILES = 4
_MAX_FREE = 8  # arrays for reuse; more than the threads that decode at the same time need no memory


class TileCache:
    """Tiles, and the errors of tiles that do not decode. May be used from several threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tiles: OrderedDict[Key, Pixels | RegionError] = OrderedDict()
        self._free: list[Pixels] = []
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of the tiles."""
        return self._bytes

    def get(self, key: Key, *, last: bool = False) -> Pixels | RegionError | None:
        """The tile, read-only; its error; None when neither is stored. last: do not store it any longer."""
        with self._lock:
            tile = self._tiles.get(key)
            if tile is not None and last:
                self._bytes -= _size(self._tiles.pop(key))
            elif tile is not None:
                self._tiles.move_to_end(key)
            return tile

    def put(self, key: Key, tile: Pixels | RegionError, limit: int) -> None:
        """Store a tile, and drop others until at most `limit` bytes (192 MiB) or four tiles are left."""
        if not isinstance(tile, RegionError):
            tile.flags.writeable = False
        with self._lock:
            if key not in self._tiles:  # another thread may have decoded it in the meantime
                self._bytes += _size(tile)
                self._tiles[key] = tile
            while self._bytes > min(limit, _MAX_BYTES) and len(self._tiles) > _MIN_TILES:
                dropped = self._tiles.popitem(last=False)[1]
                self._bytes -= _size(dropped)
                self._release(dropped)

    def empty(self, shape: tuple[int, int, int]) -> Pixels:
        """An array for the next tile: that of a dropped tile which nothing refers to, or a new one."""
        with self._lock:
            while self._free:
                array = self._free.pop()
                if array.shape == shape and sys.getrefcount(array) == 2:  # this variable and the argument
                    array.flags.writeable = True
                    return array
        return np.empty(shape, np.uint8)

    def release(self, tile: Pixels) -> None:
        """Use the memory of a tile again that was not stored, as soon as nothing else refers to it."""
        with self._lock:
            self._release(tile)

    def clear(self) -> None:
        """Drop everything."""
        with self._lock:
            self._tiles.clear()
            self._free.clear()
            self._bytes = 0

    def _release(self, tile: Pixels | RegionError) -> None:
        if not isinstance(tile, RegionError) and tile.flags.owndata and len(self._free) < _MAX_FREE:
            self._free.append(tile)


def _size(tile: Pixels | RegionError) -> int:
    return 0 if isinstance(tile, RegionError) else tile.nbytes
