"""The cache of decoded tiles: what it drops, and when it uses memory again."""

import numpy as np

from mcti.slides.status import RegionError
from mcti.slides.tile_cache import TileCache

SHAPE = (8, 8, 3)
BYTES = 8 * 8 * 3


def filled(cache, count, limit=6 * BYTES):
    """The addresses of `count` tiles that were put into the cache one after the other."""
    addresses = []
    for number in range(count):
        tile = cache.empty(SHAPE)
        tile[:] = number
        addresses.append(tile.ctypes.data)
        cache.put((0, number, 1), tile, limit)
    return addresses


def test_the_least_recently_used_tile_is_dropped():
    cache = TileCache()
    filled(cache, 6)
    assert cache.get((0, 0, 1))[0, 0, 0] == 0
    cache.put((0, 6, 1), np.zeros(SHAPE, np.uint8), 6 * BYTES)
    assert cache.get((0, 1, 1)) is None
    assert cache.get((0, 0, 1)) is not None
    assert cache.nbytes == 6 * BYTES


def test_memory_of_a_dropped_tile_is_used_again():
    addresses = filled(TileCache(), 30)
    assert len(set(addresses)) == 7  # six in the cache and the next one


def test_memory_of_a_dropped_tile_that_is_still_in_use_is_left_alone():
    cache = TileCache()
    filled(cache, 6)
    held, part = cache.get((0, 0, 1)), cache.get((0, 1, 1))[2:4]
    cache.get((0, 2, 1))
    filled(cache, 40)
    assert (held == 0).all()
    assert (part == 1).all()


def test_a_stored_tile_is_read_only_and_leaves_the_cache_after_its_last_use():
    cache = TileCache()
    filled(cache, 2)
    assert not cache.get((0, 1, 1)).flags.writeable
    assert cache.get((0, 1, 1), last=True) is not None
    assert cache.get((0, 1, 1)) is None
    assert cache.nbytes == BYTES


def test_at_least_four_tiles_stay_and_errors_need_no_memory():
    cache = TileCache()
    filled(cache, 9, limit=BYTES)
    assert cache.nbytes == 4 * BYTES
    cache.put((0, 99, 1), RegionError("broken"), BYTES)
    assert isinstance(cache.get((0, 99, 1)), RegionError)
    assert cache.nbytes == 3 * BYTES


def test_memory_of_another_shape_is_not_used():
    cache = TileCache()
    cache.release(np.zeros((4, 4, 3), np.uint8))
    assert cache.empty(SHAPE).shape == SHAPE
