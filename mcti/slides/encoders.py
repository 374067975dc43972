"""Tile encoders by name: `hed44`, `lite0`, `onnx:FILE`, `timm:NAME` and `timm:NAME@FILE`. Never a download.

An encoder takes RGB tiles, uint8 (h, w, 3) each, and gives float32 features (n, width). Its identity (name, hash of the
weights, preprocessing) goes into the feature files and their keys.
"""

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mcti import storage
from mcti.errors import DataError, UsageError, did_you_mean
from mcti.slides import hed44, lite0
from mcti.slides.decoding import Pixels

Features = NDArray[np.float32]

_AT_ONCE = 4  # tiles a call of ONNX Runtime: the activations of 64 leave the processor's cache, and each takes longer


@dataclass(frozen=True)
class Identity:
    """Who made the features. Two runs with equal identities give equal features."""

    name: str
    weights_sha256: str
    preprocessing: str


class Encoder(Protocol):
    """What every encoder offers. `encode` may be called from many threads."""

    @property
    def identity(self) -> Identity:
        """Who it is."""

    @property
    def width(self) -> int:
        """Numbers in one tile's features."""

    def encode(self, tiles: Sequence[Pixels]) -> Features:
        """Features (n, width) float32 of n tiles."""


def make(name: str, resolution: float, accepted: tuple[str, ...] = ()) -> Encoder:
    """The encoder called `name`, for tiles at `resolution` µm/px; `accepted`: restricted encoders the user may use.

    Raises
        UsageError: an unknown name, a resolution the encoder never saw, a licence not accepted, a wrong width.
        OperationalError: a package is not installed.
        DataError: the weights file is missing or broken.
    """
    kind, _, rest = name.partition(":")
    if name == "hed44":
        return Hed44()
    if name == "lite0":
        return Lite0()
    if kind == "onnx" and rest:
        return OnnxFile(Path(rest), resolution)
    if kind == "timm" and rest:
        from mcti.slides.timm_encoder import TimmEncoder

        return TimmEncoder(rest, resolution, accepted)
    known = ["hed44", "lite0", "onnx:FILE", "timm:NAME", "timm:NAME@FILE"]
    raise UsageError(f"unknown encoder {name!r}", "extract.encoder", did_you_mean(name, known))


class Hed44:
    """Stain and texture numbers (mcti/slides/hed44.py)."""

    identity = Identity("hed44", "", "hed44-1")
    width = hed44.WIDTH

    def encode(self, tiles: Sequence[Pixels]) -> Features:
        """See Encoder."""
        return np.stack([hed44.encode(tile) for tile in tiles])


class _Onnx:
    """A graph in ONNX Runtime; one thread a call, since the callers are as many as the cores."""

    _lock = threading.Lock()

    def _graph(self) -> bytes:
        raise NotImplementedError

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 4
        try:
            return onnxruntime.InferenceSession(self._graph(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own classes have no common base
            what = f"not a network that ONNX Runtime runs ({error})"
            raise DataError(what, "extract.encoder", "export it anew") from error

    def _run(self, batch: NDArray[np.float32]) -> Features:
        with self._lock:  # cached_property alone would build two sessions in two threads
            session = self._session
        features = session.run(None, {session.get_inputs()[0].name: batch})[0]
        return np.asarray(features, np.float32)

    def _scaled(self, tiles: Sequence[Pixels]) -> NDArray[np.float32]:
        """Tiles as the graph wants them, (n, 3, size, size)."""
        raise NotImplementedError

    def encode(self, tiles: Sequence[Pixels]) -> Features:
        """See Encoder."""
        parts = [tiles[i : i + _AT_ONCE] for i in range(0, len(tiles), _AT_ONCE)]
        return np.concatenate([self._run(self._scaled(part)) for part in parts])


class Lite0(_Onnx):
    """EfficientNet-Lite0, ImageNet weights, 1,280 numbers (mcti/slides/lite0.py)."""

    width = lite0.WIDTH

    @cached_property
    def identity(self) -> Identity:
        """Name, weights, preprocessing."""
        return Identity("lite0", sha256(Path(lite0.weights_file())), "area-224 (x-127)/128")

    def _graph(self) -> bytes:
        return lite0.graph()

    def _scaled(self, tiles: Sequence[Pixels]) -> NDArray[np.float32]:
        batch = to_batch(tiles, lite0.SIZE)
        batch -= lite0.MEAN
        batch /= lite0.SCALE
        return batch


class OnnxFile(_Onnx):
    """A user's ONNX file: input (n, 3, size, size) float32, first output (n, width).

    `FILE.json` beside it may state mean, std (of 0-1 channels; default ImageNet's), size, mpp and width.
    """

    def __init__(self, path: Path, resolution: float) -> None:
        self._path = path
        with storage.translating_os_errors(path):
            self._bytes = path.read_bytes()
        card = _sidecar(path)
        self._size = card.get("size")
        self._mean = np.asarray(card.get("mean", (0.485, 0.456, 0.406)), np.float32)[:, None, None]
        self._std = np.asarray(card.get("std", (0.229, 0.224, 0.225)), np.float32)[:, None, None]
        stated = json.dumps(card, sort_keys=True)
        self.identity = Identity(f"onnx:{path.name}", hashlib.sha256(self._bytes).hexdigest(), stated)
        if card.get("mpp") and abs(card["mpp"] - resolution) > 0.02 * card["mpp"]:
            where, hint = f"{path}.json", f"set extract.resolution={card['mpp']:g}"
            raise UsageError(f"this encoder wants {card['mpp']:g} µm/px, not {resolution:g}", where, hint)
        if card.get("width") and card["width"] != self.width:
            what = f"width {card['width']} is stated, the graph gives {self.width}"
            raise UsageError(what, f"{path}.json", "check that the two files belong together")

    def _graph(self) -> bytes:
        return self._bytes

    @cached_property
    def size(self) -> int:
        """Edge of the input in pixels: the sidecar's, else the graph's, else 224."""
        stated = self._size or self._session.get_inputs()[0].shape[-1]
        return stated if isinstance(stated, int) else 224

    @cached_property
    def width(self) -> int:
        """Numbers in one tile's features, by trying."""
        features = self._run(np.zeros((1, 3, self.size, self.size), np.float32))
        if features.ndim != 2:
            shape = features.shape
            raise DataError(f"the first output has shape {shape}, not (n, width)", str(self._path), "pool it first")
        return int(features.shape[1])

    def _scaled(self, tiles: Sequence[Pixels]) -> NDArray[np.float32]:
        return np.asarray((to_batch(tiles, self.size) / np.float32(255.0) - self._mean) / self._std, np.float32)


def to_batch(tiles: Sequence[Pixels], size: int) -> NDArray[np.float32]:
    """Tiles as (n, 3, size, size) float32 of 0-255, made smaller by area, larger by cubics."""
    import cv2

    batch = np.empty((len(tiles), 3, size, size), np.float32)
    for i, tile in enumerate(tiles):
        if tile.shape[:2] != (size, size):
            way = cv2.INTER_AREA if tile.shape[0] > size else cv2.INTER_CUBIC
            tile = np.asarray(cv2.resize(tile, (size, size), interpolation=way), np.uint8)
        for channel, plane in enumerate(cv2.split(tile)):
            batch[i, channel] = plane
    return batch


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with storage.translating_os_errors(path), path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sidecar(path: Path) -> dict[str, Any]:
    beside = path.with_name(path.name + ".json")
    if not beside.exists():
        return {}
    card = storage.read_json(beside)
    known = {"mean", "std", "size", "mpp", "width"}
    unknown = set(card) - known if isinstance(card, dict) else {"(no mapping)"}
    if unknown:
        raise DataError(f"unknown key {min(unknown)!r}", str(beside), did_you_mean(min(unknown), known))
    return dict(card)
