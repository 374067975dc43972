"""Reads and encodes the tiles of one slide in blocks; finished blocks on disk survive a kill of the process.

The result does not depend on the number of threads: batches and blocks have fixed sizes and a fixed order.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mcti import storage
from mcti.params import ExtractParams
from mcti.slides.decoding import Pixels
from mcti.slides.encoder_protocol import Encoder
from mcti.slides.features import TileBlock
from mcti.slides.status import RegionError, SlideError, Status
from mcti.slides.tiles import TileSource, sharpness

_BATCH = 64  # tiles per call of the encoder; some encoders give other bits for other batch sizes
_BLOCK = 4096  # candidate tiles per checkpoint on disk


@dataclass(frozen=True)
class CandidateTiles:
    """Tiles on tissue: corners (N, 2) in level-0 pixels, sorted by y, then x, and tissue_fraction (N,) in 0 to 1."""

    corners: NDArray[np.int64]
    tissue_fraction: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.corners)

    def part(self, start: int, size: int) -> "CandidateTiles":
        """The tiles from `start`, at most `size`."""
        rows = slice(start, start + size)
        return CandidateTiles(self.corners[rows], self.tissue_fraction[rows])


@dataclass(frozen=True)
class EncodedBlock:
    """A finished block: in memory when the slide has only one, on disk when it has several."""

    failed: int
    blurred: int
    load: Callable[[], TileBlock]


class BlockEncoder:
    """Encodes the tiles of one slide, block by block."""

    def __init__(
        self,
        source: TileSource,
        encoder: Encoder,
        params: ExtractParams,
        checkpoints: Path,
        report_tiles: Callable[[int], None],
    ) -> None:
        self._source, self._encoder, self._params = source, encoder, params
        self._checkpoints, self._report_tiles = checkpoints, report_tiles
        self._local = threading.local()

    def encode(self, tiles: CandidateTiles, threads: int) -> list[EncodedBlock]:
        """All blocks in order; blocks with a checkpoint from an earlier run are not encoded again.

        Raises SlideError after the time limit of the slide.
        """
        several = len(tiles) > _BLOCK
        with ThreadPoolExecutor(threads) as pool:
            return [
                self._checkpointed(tiles.part(start, _BLOCK), start, pool)
                if several
                else self._in_memory(tiles.part(start, _BLOCK), pool)
                for start in range(0, len(tiles), _BLOCK)
            ]

    def _in_memory(self, tiles: CandidateTiles, pool: ThreadPoolExecutor) -> EncodedBlock:
        block = self._encode_block(tiles, pool)
        return EncodedBlock(len(block.failed), block.blurred, lambda: block)

    def _checkpointed(self, tiles: CandidateTiles, start: int, pool: ThreadPoolExecutor) -> EncodedBlock:
        file = self._checkpoints / f"{start}.npz"
        if file.exists():
            block = _load(file)
        else:
            block = self._encode_block(tiles, pool)
            _save(block, file)
        return EncodedBlock(len(block.failed), block.blurred, lambda: _load(file))

    def _encode_block(self, tiles: CandidateTiles, pool: ThreadPoolExecutor) -> TileBlock:
        starts = range(0, len(tiles), _BATCH)
        return _concatenate(list(pool.map(lambda start: self._encode_batch(tiles.part(start, _BATCH)), starts)))

    def _encode_batch(self, tiles: CandidateTiles) -> TileBlock:
        """Read some tiles, drop those that do not decode or are out of focus, and encode the others."""
        pictures: list[Pixels] = []
        kept, failed = [], []
        memory = self._batch_memory()
        for i, (x, y) in enumerate(tiles.corners.tolist()):
            try:
                picture = self._source.read(x, y, memory[len(pictures)])
            except RegionError:
                failed.append(i)
                continue
            if not self._params.tissue.min_sharpness or sharpness(picture) >= self._params.tissue.min_sharpness:
                pictures.append(picture)
                kept.append(i)
        features = self._encoder.encode(pictures) if pictures else np.zeros((0, self._encoder.width), np.float32)
        blurred = len(tiles) - len(kept) - len(failed)
        self._report_tiles(len(tiles))
        return TileBlock(features, tiles.corners[kept], tiles.tissue_fraction[kept], tiles.corners[failed], blurred)

    def _batch_memory(self) -> Pixels:
        """Memory (n, tile, tile, 3) for the tiles of a batch, the same for all batches of a thread."""
        if not hasattr(self._local, "memory"):
            self._local.memory = np.empty((_BATCH, self._params.tile, self._params.tile, 3), np.uint8)
        memory: Pixels = self._local.memory
        return memory


def check_failures(blocks: list[EncodedBlock], total: int, params: ExtractParams) -> None:
    """Refuse a slide of which too many tiles do not decode, or no tile remains.

    Raises SlideError: READ_ERROR for tiles that do not decode, OUT_OF_FOCUS when all others are blurred.
    """
    failed, blurred = sum(block.failed for block in blocks), sum(block.blurred for block in blocks)
    if failed > params.max_failed_tiles_share * total:
        raise SlideError(
            Status.READ_ERROR,
            f"{failed} of {total} tiles do not decode, more than extract.max_failed_tiles_share allows",
            "copy the slide again",
        )
    if failed + blurred < total:
        return
    if not blurred:
        raise SlideError(Status.READ_ERROR, f"none of {total} tiles decodes", "copy the slide again")
    undecoded = f", {failed} do not decode" if failed else ""
    raise SlideError(
        Status.OUT_OF_FOCUS,
        f"{blurred} of {total} tiles are out of focus{undecoded}",
        f"scan the slide again, or lower extract.tissue.min_sharpness ({params.tissue.min_sharpness:g})",
    )


def _concatenate(blocks: list[TileBlock]) -> TileBlock:
    return TileBlock(
        np.concatenate([block.features for block in blocks]),
        np.concatenate([block.coords for block in blocks]),
        np.concatenate([block.tissue_fraction for block in blocks]),
        np.concatenate([block.failed for block in blocks]),
        sum(block.blurred for block in blocks),
    )


def _save(block: TileBlock, file: Path) -> None:
    with storage.replacing(file) as draft, draft.open("wb") as stream:
        np.savez(
            stream,
            features=block.features,
            coords=block.coords,
            tissue_fraction=block.tissue_fraction,
            failed=block.failed,
            blurred=np.asarray(block.blurred),
        )


def _load(file: Path) -> TileBlock:
    with np.load(file, allow_pickle=False) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    return TileBlock(**{**values, "blurred": int(values["blurred"])})
