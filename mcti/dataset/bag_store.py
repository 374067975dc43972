"""The patches of a cohort in one file that every process maps: no process has a copy of the cohort in memory.

Feature files are stored in blocks, which cannot be mapped as one array. The rows of the file are those of the feature
files as float32. The operating system keeps in memory what fits, and reads the rest again.
"""

import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mcti import storage
from mcti.dataset.bags import SlideTiles
from mcti.dataset.slide_bags import SlideBag

_VALUES, _INDEX = "patches.f32", "index.json"


def write(folder: Path, bags: Iterable[tuple[str, SlideBag]]) -> None:
    """Write the bags of patients; each is released before the next one is read.

    Raises
        OperationalError: the disk is full, or the folder cannot be written.
    """
    index: dict[str, Any] = {}
    with storage.translating_os_errors(folder), (folder / _VALUES).open("wb") as values:
        for patient, bag in bags:
            record = _record(bag)
            if bag.patches is not None:
                record |= {"start": values.tell() // 4, "shape": list(bag.patches.shape)}
                bag.patches.float().contiguous().numpy().tofile(values)
            index[patient] = record
    storage.write_json(folder / _INDEX, index)


class BagStore:
    """The bags that `write` has written, without the coordinates of tiles, which no training reads.

    The patches must not be changed in place: the mapping is read-only.
    """

    def __init__(self, folder: Path) -> None:
        self._index: dict[str, Any] = storage.read_json(folder / _INDEX)
        self._values = _mapped(folder / _VALUES)

    def bag(self, patient: str) -> SlideBag:
        """The bag of a patient; an empty one for a patient without slides."""
        record = self._index.get(patient)
        if record is None:
            return SlideBag(None)
        tiles = tuple(SlideTiles(name, count) for name, count in record["slides"])
        return SlideBag(self._patches(record), tiles, record["quality"], tuple(record["provenance"]))

    def _patches(self, record: dict[str, Any]) -> Tensor | None:
        if "start" not in record:
            return None
        start, shape = record["start"], record["shape"]
        return self._values[start : start + math.prod(shape)].view(shape)


def _record(bag: SlideBag) -> dict[str, Any]:
    slides = [(tiles.slide_id, tiles.count) for tiles in bag.tiles]
    return {"slides": slides, "quality": dict(bag.quality), "provenance": [dict(one) for one in bag.provenance]}


def _mapped(path: Path) -> Tensor:
    """The values of a file, mapped: read-only and shared, so that it is not counted as memory of each process."""
    if not path.stat().st_size:  # an empty file cannot be mapped
        return torch.zeros(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(np.memmap(path, np.float32, "r"))
