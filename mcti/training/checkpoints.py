"""Exact checkpoints: the whole state of a run in one file, from which it resumes with the same bits.

A file is a BLAKE2b checksum followed by a safetensors image whose metadata hold the plain values as JSON. Nothing in
it can execute code, and a flipped bit or a truncated file is detected. No state of a random generator is stored:
every random choice is a function of (seed, step, patient), see mcti/dataset/sampling.py and loop.py.
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
    """A checkpoint cannot be read; the previous one is used instead."""


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` optimizer steps.

    tensors  weights, averages and moments by name
    values   plain JSON values: history, running sums
    identity  digests of data and code, and settings; they must be equal in a resumed run
    path      the file that it was read from
    """

    step: int
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]
    identity: Mapping[str, Any]
    path: Path | None = None


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint into `folder` (created where necessary), complete or not at all, and keep the last two.

    Raises OperationalError when the disk is full or the folder cannot be written; older ones are unchanged.
    """
    values = {"step": checkpoint.step, "values": checkpoint.values, "identity": checkpoint.identity}
    tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()}
    image = safetensors.torch.save(tensors, metadata={"state": json.dumps(values, sort_keys=True)})
    path = folder / f"step_{checkpoint.step:09d}{_SUFFIX}"
    with storage.replacing(path) as draft:
        draft.write_bytes(_checksum(image) + image)
    for old in _files(folder)[:-_KEPT]:
        old.unlink(missing_ok=True)  # another process of the same run may have removed it
    return path


def latest(folder: Path, identity: Mapping[str, Any]) -> Checkpoint | None:
    """The newest readable checkpoint of `folder`, or None where there is none.

    A corrupt file is skipped with a CorruptCheckpoint warning that names it and the file used in its place.

    Raises DataError when the checkpoint belongs to other data or settings than `identity`, naming the difference.
    """
    paths = _files(folder)
    while paths:
        path = paths.pop()
        checkpoint = _read(path)
        if checkpoint is not None:
            _check_identity(checkpoint.identity, identity, path)
            return checkpoint
        instead = f"trying {paths[-1].name} before it" if paths else "there is no older one, starting at step 0"
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


def _check_identity(stored: Mapping[str, Any], required: Mapping[str, Any], path: Path) -> None:
    """Compare identities key by key, sections by dotted path."""
    if changed := compatibility.differences(stored, required):
        shown = compatibility.describe_differences(changed, "{key} was {one} and is {other}")
        hint = f"run with the previous data and settings, or delete {path.parent} to start again"
        raise DataError(f"the checkpoint belongs to another run: {shown}", str(path), hint)
