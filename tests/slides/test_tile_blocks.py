"""Blocks of tiles: independent of threads, checkpoints, and the limits on damaged and blurred tiles."""

import numpy as np
import pytest

from mcti.params import ExtractParams, TissueParams
from mcti.slides import tile_blocks
from mcti.slides.status import RegionError, SlideError, Status
from mcti.slides.tile_blocks import BlockEncoder, CandidateTiles, EncodedBlock

PARAMS = ExtractParams(tile=64, max_failed_tiles_share=0.5, tissue=TissueParams(min_sharpness=1.0))


class Source:
    """Noise, except a flat tile at x = 1 and a tile at x = 2 that does not decode."""

    def read(self, x, y, buffer):
        if x == 2:
            buffer[:] = 7  # a decoder that fails has already written a part
            raise RegionError("damaged")
        buffer[:] = 0 if x == 1 else noise(x)
        return buffer


def noise(x):
    return np.random.default_rng(x).integers(0, 256, (64, 64, 3), np.uint8)


class MeanEncoder:
    width = 1
    calls = 0

    def encode(self, tiles):
        self.calls += 1
        return np.array([[tile.mean()] for tile in tiles], np.float32)


def candidates(count):
    corners = np.stack([np.arange(count), np.zeros(count, int)], axis=1)
    return CandidateTiles(corners, np.linspace(0, 1, count, dtype=np.float32))


def test_damaged_and_blurred_tiles_are_dropped_and_counted(tmp_path):
    counts = []
    encoder = BlockEncoder(Source(), MeanEncoder(), PARAMS, tmp_path, counts.append)
    (block,) = encoder.encode(candidates(10), threads=2)
    rows = block.load()
    assert (block.failed, block.blurred) == (1, 1)
    assert rows.coords[:, 0].tolist() == [0, 3, 4, 5, 6, 7, 8, 9]
    assert rows.failed.tolist() == [[2, 0]]
    expected = [noise(x).mean() for x in rows.coords[:, 0].tolist()]
    np.testing.assert_allclose(rows.features[:, 0], expected, rtol=1e-6)  # float32
    assert sum(counts) == 10
    assert not list(tmp_path.iterdir())  # a single block needs no checkpoint


def test_blocks_with_a_checkpoint_are_not_encoded_again(tmp_path, monkeypatch):
    monkeypatch.setattr(tile_blocks, "_BLOCK", 4)
    first, second = MeanEncoder(), MeanEncoder()
    whole = BlockEncoder(Source(), first, PARAMS, tmp_path, lambda _: None).encode(candidates(10), 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.npz", "4.npz", "8.npz"]
    (tmp_path / "4.npz").unlink()
    again = BlockEncoder(Source(), second, PARAMS, tmp_path, lambda _: None).encode(candidates(10), 1)
    assert (first.calls, second.calls) == (3, 1)
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one.load().features, other.load().features)


@pytest.mark.parametrize(
    ("failed", "blurred", "status"),
    [(6, 0, Status.READ_ERROR), (10, 0, Status.READ_ERROR), (4, 6, Status.OUT_OF_FOCUS), (5, 4, None)],
)
def test_slides_with_too_few_usable_tiles_are_refused(failed, blurred, status):
    blocks = [EncodedBlock(failed, blurred, lambda: None)]
    if status is None:
        tile_blocks.check_failures(blocks, 10, PARAMS)
        return
    with pytest.raises(SlideError) as caught:
        tile_blocks.check_failures(blocks, 10, PARAMS)
    assert caught.value.status is status
