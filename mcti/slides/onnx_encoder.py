"""Encoders that run a network in ONNX Runtime."""

import hashlib
import json
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcti import storage
from mcti.errors import DataError, UsageError, did_you_mean
from mcti.slides.decoding import Pixels
from mcti.slides.encoder_protocol import EncoderIdentity, Features, to_batch

# Tiles per call of ONNX Runtime: the activations of 64 tiles exceed the processor's cache, and each tile takes longer.
_TILES_PER_CALL = 4
_SIDECAR_KEYS = {"mean", "std", "size", "mpp", "width"}


class OnnxEncoder:
    """Base of the encoders that run an ONNX graph. One thread per call, because the callers use one thread per core."""

    _lock = threading.Lock()

    def _graph(self) -> bytes:
        """The serialised ONNX model."""
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
        except Exception as error:  # the exception classes of the runtime have no common base
            what = f"ONNX Runtime cannot run the network ({error})"
            raise DataError(what, "extract.encoder", "export the network again") from error

    def _run(self, batch: NDArray[np.float32]) -> Features:
        with self._lock:  # cached_property alone would build two sessions in two threads
            session = self._session
        features = session.run(None, {session.get_inputs()[0].name: batch})[0]
        return np.asarray(features, np.float32)

    def _scaled(self, tiles: Sequence[Pixels]) -> NDArray[np.float32]:
        """Tiles as the input of the graph, (n, 3, size, size)."""
        raise NotImplementedError

    def encode(self, tiles: Sequence[Pixels]) -> Features:
        """See Encoder."""
        batches = [tiles[i : i + _TILES_PER_CALL] for i in range(0, len(tiles), _TILES_PER_CALL)]
        return np.concatenate([self._run(self._scaled(batch)) for batch in batches])


class OnnxFileEncoder(OnnxEncoder):
    """An ONNX file of the user: input (n, 3, size, size) float32, first output (n, width).

    The optional file `FILE.json` in the same folder may state mean and std (of channels in 0 to 1; default: those of
    ImageNet), size, mpp and width.
    """

    def __init__(self, path: Path, resolution: float) -> None:
        self._path = path
        with storage.translating_os_errors(path):
            self._bytes = path.read_bytes()
        sidecar = _read_sidecar(path)
        self._size = sidecar.get("size")
        self._mean = np.asarray(sidecar.get("mean", (0.485, 0.456, 0.406)), np.float32)[:, None, None]
        self._std = np.asarray(sidecar.get("std", (0.229, 0.224, 0.225)), np.float32)[:, None, None]
        preprocessing = json.dumps(sidecar, sort_keys=True)
        self.identity = EncoderIdentity(f"onnx:{path.name}", hashlib.sha256(self._bytes).hexdigest(), preprocessing)
        if sidecar.get("mpp") and abs(sidecar["mpp"] - resolution) > 0.02 * sidecar["mpp"]:
            what = f"the encoder expects {sidecar['mpp']:g} µm/px, extract.resolution is {resolution:g}"
            raise UsageError(what, f"{path}.json", f"set extract.resolution={sidecar['mpp']:g}")
        if sidecar.get("width") and sidecar["width"] != self.width:
            what = f"width is {sidecar['width']}, but the graph returns {self.width} features"
            raise UsageError(what, f"{path}.json", "check that the two files belong together")

    def _graph(self) -> bytes:
        return self._bytes

    @cached_property
    def size(self) -> int:
        """Edge of the input in pixels: from the JSON file, else from the graph, else 224."""
        size = self._size or self._session.get_inputs()[0].shape[-1]
        return size if isinstance(size, int) else 224

    @cached_property
    def width(self) -> int:
        """Number of features per tile, measured on one black tile.

        Raises DataError when the graph cannot run, or its first output is not (n, width).
        """
        features = self._run(np.zeros((1, 3, self.size, self.size), np.float32))
        if features.ndim != 2:
            what = f"the first output has shape {features.shape}, not (n, width)"
            raise DataError(what, str(self._path), "add a pooling layer before the export")
        return int(features.shape[1])

    def _scaled(self, tiles: Sequence[Pixels]) -> NDArray[np.float32]:
        return np.asarray((to_batch(tiles, self.size) / np.float32(255.0) - self._mean) / self._std, np.float32)


def _read_sidecar(path: Path) -> dict[str, Any]:
    sidecar = path.with_name(path.name + ".json")
    if not sidecar.exists():
        return {}
    values = storage.read_json(sidecar)
    unknown = set(values) - _SIDECAR_KEYS if isinstance(values, dict) else {"(no mapping)"}
    if unknown:
        raise DataError(f"unknown key {min(unknown)!r}", str(sidecar), did_you_mean(min(unknown), _SIDECAR_KEYS))
    return dict(values)
