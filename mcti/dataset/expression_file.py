"""Expression of many patients in a file that processes map: they share its memory and read the rows that they use."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mcti import storage
from mcti.arrays import Float32Array

_VALUES, _INDEX = "values.f32", "index.json"


@dataclass(frozen=True)
class ExpressionFile:
    """ids of the patients, names of the genes, and values (patients, genes) float32, mapped from the file."""

    ids: tuple[str, ...]
    genes: tuple[str, ...]
    values: Float32Array

    @classmethod
    def write(cls, folder: Path, genes: Sequence[str], blocks: Iterable[tuple[Sequence[str], Float32Array]]) -> None:
        """Write blocks of patient ids (n,) and values (n, genes) to a new folder; one block is in memory at a time.

        Raises OperationalError when the disk is full
        """
        ids: list[str] = []
        with storage.translating_os_errors(folder):
            folder.mkdir(parents=True)
            with (folder / _VALUES).open("wb") as file:
                for names, values in blocks:
                    ids += names
                    file.write(np.ascontiguousarray(values, dtype=np.float32).data)
        storage.write_json(folder / _INDEX, {"ids": ids, "genes": list(genes)})

    @classmethod
    def read(cls, folder: Path) -> "ExpressionFile":
        """Map the file that `write` made; a table without rows or genes has values of that shape."""
        index = storage.read_json(folder / _INDEX)
        ids, genes = tuple(index["ids"]), tuple(index["genes"])
        if not ids or not genes:
            return cls(ids, genes, np.empty((len(ids), len(genes)), dtype=np.float32))
        values = np.memmap(folder / _VALUES, dtype=np.float32, mode="r", shape=(len(ids), len(genes)))
        return cls(ids, genes, values)
