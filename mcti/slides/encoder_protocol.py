"""The interface of a tile encoder, and the helpers that several encoders use.

An encoder takes RGB tiles, uint8 (h, w, 3) each, and returns float32 features (n, width). Its identity (name, SHA-256
of the weights, preprocessing) is stored in the feature files and enters their cache keys.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mcti import storage
from mcti.slides.decoding import Pixels

Features = NDArray[np.float32]
"""(n, width): one row per tile."""


@dataclass(frozen=True)
class EncoderIdentity:
    """Name, weights and preprocessing of an encoder. Equal identities give equal features."""

    name: str
    weights_sha256: str
    preprocessing: str


class Encoder(Protocol):
    """The interface of every encoder. `encode` may be called from several threads at once."""

    @property
    def identity(self) -> EncoderIdentity:
        """Name, weights and preprocessing."""

    @property
    def width(self) -> int:
        """Number of features per tile."""

    def encode(self, tiles: Sequence[Pixels]) -> Features:
        """Features (n, width) float32 of n tiles."""


def to_batch(tiles: Sequence[Pixels], size: int) -> NDArray[np.float32]:
    """Tiles as (n, 3, size, size) float32 with values 0 to 255; area averaging to shrink, bicubic to enlarge."""
    import cv2

    batch = np.empty((len(tiles), 3, size, size), np.float32)
    for i, tile in enumerate(tiles):
        if tile.shape[:2] != (size, size):
            interpolation = cv2.INTER_AREA if tile.shape[0] > size else cv2.INTER_CUBIC
            tile = np.asarray(cv2.resize(tile, (size, size), interpolation=interpolation), np.uint8)
        for channel, plane in enumerate(cv2.split(tile)):
            batch[i, channel] = plane
    return batch


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal.

    Raises OperationalError or DataError when the file cannot be read.
    """
    with storage.translating_os_errors(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
