"""Creates and reads HDF5 files: deterministic bytes, clean errors on a full disk, fast access to attributes."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcti import storage
from mcti.errors import DataError


@contextmanager
def create(path: Path) -> Iterator[tuple[Any, Callable[[], None]]]:
    """A new file without dates, and a function for long writes that raises once a write to the disk has failed.

    Raises OSError when the disk is full or the folder is not writable; at the latest when the block ends.
    """
    import h5py

    with _DeferredErrors(path) as disk:
        with h5py.File(disk, "w", libver="earliest", track_order=False) as file:
            yield file, disk.check
        disk.check()


def read_attribute(owner: Any, name: str, default: Any = None) -> Any:
    """A number or text among the attributes of a low-level `owner`; takes a third of the time of h5py's mapping.

    Raises KeyError when there is no attribute of that name and no default.
    """
    import h5py

    if not h5py.h5a.exists(owner, name.encode()):
        if default is None:
            raise KeyError(name)
        return default
    attribute = h5py.h5a.open(owner, name.encode())
    value = np.empty(attribute.shape, attribute.dtype)
    attribute.read(value)
    item = value.item()
    return item.decode() if isinstance(item, bytes) else item


def plain_attributes(owner: Any) -> dict[str, Any]:
    """All attributes of a file or dataset, with numpy's scalars as Python values."""
    return {str(name): value.item() if isinstance(value, np.generic) else value for name, value in owner.attrs.items()}


@contextmanager
def open_foreign(path: Path) -> Iterator[Any]:
    """Open a file of another tool; the caller reads the datasets of the expected format.

    Raises DataError when the file is no HDF5 file, or a dataset is missing.
    """
    import h5py

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError("not an HDF5 file", str(path), "copy it again") from error
    with file:
        try:
            yield file
        except (KeyError, OSError) as error:
            raise DataError(f"not of this format ({error})", str(path), "check --format") from error


def write_tables(
    out: Path, tables: dict[str, NDArray[Any]], attributes: dict[str, dict[str, Any]], root: dict[str, Any]
) -> None:
    """Write arrays as datasets of a new file, completely or not at all.

    tables      arrays (N, …) by name
    attributes  attributes by dataset; root: attributes of the file
    Raises OperationalError when the disk is full or the folder is not writable.
    """
    with storage.replacing(out) as draft, create(draft) as (file, _):
        for name, values in tables.items():
            chunks = (min(256, len(values)), *values.shape[1:])
            table = file.create_dataset(name, data=values, chunks=chunks, track_times=False)
            for key, value in attributes.get(name, {}).items():
                table.attrs[key] = value
        for key, value in root.items():
            file.attrs[key] = value


class _DeferredErrors(io.RawIOBase):
    """A new file whose writes never raise; `check` raises the first error.

    HDF5 cannot handle a failed write: the process ends with a segmentation fault when the handle is closed afterwards.
    Therefore every write reports success, and after an error the caller deletes the unfinished file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first error of a write, if there was one."""
        if self._error is not None:
            raise self._error

    def write(self, data: Any) -> int:
        """Write all of `data`; do nothing after a failed write."""
        remaining = memoryview(data)
        size = len(remaining)
        try:
            while remaining and self._error is None:
                remaining = remaining[self._file.write(remaining) :]
        except OSError as error:
            self._error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the length; do nothing after a failed write."""
        try:
            return self._file.truncate(size) if self._error is None else (size or 0)
        except OSError as error:
            self._error = error
            return size or 0

    def readinto(self, buffer: Any) -> int | None:
        """Read from the current position."""
        return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The current position."""
        return self._file.tell()

    def readable(self) -> bool:
        """True: HDF5 reads parts of the file that it has written."""
        return True

    def writable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True: HDF5 writes at several positions."""
        return True

    def close(self) -> None:
        """Close the underlying file."""
        self._file.close()
        super().close()
