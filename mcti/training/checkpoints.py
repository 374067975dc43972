"""Exact checkpoints: everything a run needs to go on as if it had never stopped, in one file written at once.

A file is a BLAKE2b checksum followed by a safetensors image whose metadata hold the plain values as JSON. Nothing in
it can run code, and a flipped bit or a cut end is noticed. No state of a random generator is kept, because there is
none: every random choice is a function of (seed, step, patient), see bags.py and loop.py.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from mcti import storage
from mcti.errors import DataError
from mcti.model import compatibility

_SUFFIX = ".checkpoint"
_KEPT = 2
_CHECKSUM_BYTES = 32


class CorruptCheckpoint(UserWarning):
    """A checkpoint could not be read and the one before it is used."""


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` optimizer steps.

    tensors  weights, averages and moments by name
    values   plain JSON values: history, running sums
    identity what the run belongs to: digests and settings; a resume compares them
    path     the file that it was read from
    """

    step: int
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]
    identity: Mapping[str, Any]
    path: Path | None = None


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint into `folder` (made if need be), whole or not at all, and keep the last two.

    Raises OperationalError when the disk is full or the folder cannot be written; older ones stay as they were.
    """
    values = {"step": checkpoint.step, "values": checkpoint.values, "identity": checkpoint.identity}
    tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()}
    image = safetensors.torch.save(tensors, metadata={"state": json.dumps(values, sort_keys=True)})
    path = folder / f"step_{checkpoint.step:09d}{_SUFFIX}"
    with storage.replacing(path) as draft:
        draft.write_bytes(_checksum(image) + image)
    for old in _files(folder)[:-_KEPT]:
        old.unlink()
    return path


def latest(folder: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
    """The newest checkpoint of `folder` that can be read, or None where there is none.

    A corrupt file is passed over with a CorruptCheckpoint warning that names it and what is used in its place.

    Raises DataError when the checkpoint belongs to other data or settings than `identity`, naming the difference.
    """
    paths = _files(folder)
    while paths:
        path = paths.pop()
        found = _read(path)
        if found is not None:
            _same(found.identity, identity, path)
            return found
        instead = f"trying {paths[-1].name} before it" if paths else "there is none before it, starting anew"
        warnings.warn(f"{path.name} is corrupt: {instead}", CorruptCheckpoint, stacklevel=2)
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"step_*{_SUFFIX}") if path.is_file())


def _checksum(image: bytes) -> bytes:
    return hashlib.blake2b(image, digest_size=_CHECKSUM_BYTES).digest()


def _read(path: Path) -> Checkpoint | None:
    raw = path.read_bytes()
    image = raw[_CHECKSUM_BYTES:]
    if raw[:_CHECKSUM_BYTES] != _checksum(image):
        return None
    try:
        tensors = safetensors.torch.load(image)
        header = json.loads(image[8 : 8 + int.from_bytes(image[:8], "little")])
        state = json.loads(header["__metadata__"]["state"])
        return Checkpoint(state["step"], tensors, state["values"], state["identity"], path)
    except (SafetensorError, ValueError, KeyError):
        return None


def _same(found: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    """Compare identities key by key, sections by dotted path."""
    if changed := compatibility.differences(found, wanted):
        shown = compatibility.describe_differences(changed, "{key} was {one} and is {other}")
        hint = f"run with the former data and settings again, or delete {path.parent} to start anew"
        raise DataError(f"the checkpoint belongs to another run: {shown}", str(path), hint)
