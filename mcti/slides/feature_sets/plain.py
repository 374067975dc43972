"""Sets without a tool: `.pt`, `.npy`, `.npz` and HDF5 files, one per slide, or one file with one row per slide.

One file per slide    an array (N, D), (1, N, D) or (D,), or named arrays with one of FEATURE_NAMES, and coords
One file per set      vectors (D,) by slide or patient id; or a table (S, D) with its S ids, in the same file or in
                    `<name>.csv` or `<name>.txt` next to it
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mcti.errors import DataError
from mcti.slides import hdf5
from mcti.slides.feature_sets import arrays as array_files
from mcti.slides.feature_sets import entries
from mcti.slides.feature_sets.arrays import COORDINATE_NAMES, FEATURE_NAMES, ID_NAMES, NamedArrays
from mcti.slides.feature_sets.entries import SetEntry
from mcti.slides.portable import PATCH, PATIENT, SLIDE, PortableFeatures, from_arrays

SUFFIXES = {"pt": (".pt", ".pth"), "h5": (".h5", ".hdf5"), "npy": (".npy", ".npz")}


def find(source: Path, format_name: str) -> list[SetEntry]:
    """The entries of a file or folder.

    Raises DataError when there is no file of the format, or the one file of a set does not state its ids.
    """
    files = [source] if source.is_file() else entries.files_below(source, *SUFFIXES[format_name])
    if not files:
        raise entries.missing(source, "/".join(SUFFIXES[format_name]), format_name)
    if len(files) == 1 and (members := list(_members(files[0], is_set=source.is_file()))):
        return members
    return [entries.of_file(file, read_file) for file in files]


def read_file(file: Path) -> PortableFeatures:
    """The features of a file of one slide.

    Raises DataError when the file is broken or has no features.
    """
    named = array_files.read_arrays(file)
    values = array_files.first(named, FEATURE_NAMES)
    if values is None:
        floating = [array for array in named.values() if np.issubdtype(array.dtype, np.floating) and array.ndim > 1]
        if len(floating) != 1:
            what = f"none of the arrays {', '.join(sorted(named)) or '(none)'} is known as features"
            raise DataError(what, str(file), f"name the features {FEATURE_NAMES[0]}")
        values = floating[0]
    coords = array_files.first(named, COORDINATE_NAMES)
    grid, attributes = _attributes(file)
    return from_arrays(file.stem, str(file), values, coords, grid, attributes)


def _attributes(file: Path) -> tuple[dict[str, object], dict[str, object]]:
    """Attributes of the coordinates and of the file, in HDF5."""
    if file.suffix.lower() not in SUFFIXES["h5"]:
        return {}, {}
    with hdf5.open_foreign(file) as h5:
        owner = next((h5[name] for name in COORDINATE_NAMES if name in h5), None)
        grid = {} if owner is None else hdf5.plain_attributes(owner)
        root = hdf5.plain_attributes(h5)
    return entries.without_paths(grid), {name: root[name] for name in ("encoder",) if name in root}


def _members(file: Path, *, is_set: bool) -> Iterator[SetEntry]:
    """The entries of a file with several slides; none for the file of one slide. is_set: the file is the source."""
    named = array_files.read_arrays(file)
    values = array_files.first(named, FEATURE_NAMES)
    if values is None:
        yield from _vectors(file, named)
        return
    rows = values[0] if values.ndim == 3 and len(values) == 1 else values
    names, level = _ids(file, named)
    if names is None:
        if is_set and rows.ndim == 2 and len(rows) > 1 and array_files.first(named, COORDINATE_NAMES) is None:
            hint = f"add the ids, one per line, as {file.stem}.txt next to it, or give a folder of one file per slide"
            raise DataError(f"{len(rows)} rows without slide ids", str(file), hint)
        return
    if rows.ndim != 2 or len(rows) != len(names):
        what = f"{len(names)} ids for features of shape {values.shape}"
        raise DataError(what, str(file), "write one id per row")
    for name, row in zip(names, rows, strict=True):
        yield entries.of_member(file, name, row, level)


def _vectors(file: Path, named: NamedArrays) -> Iterator[SetEntry]:
    """Arrays by slide id: each is one vector, or patches (N, D)."""
    floating = {name: a for name, a in named.items() if np.issubdtype(a.dtype, np.floating) and a.size}
    if not floating or len(floating) < len(named) or any(a.ndim not in (1, 2) for a in floating.values()):
        return
    if len(floating) == 1 and next(iter(floating.values())).ndim == 2:
        return  # the table of one slide under another name
    level = SLIDE if all(a.ndim == 1 or len(a) == 1 for a in floating.values()) else PATCH
    for name, array in sorted(floating.items()):
        yield entries.of_member(file, name, array, level)


def _ids(file: Path, named: NamedArrays) -> tuple[list[str] | None, str]:
    """The ids of the rows, in the file or next to it, and the level that they state."""
    for name in ID_NAMES:
        if name in named:
            return array_files.texts(named[name]), PATIENT if name.startswith("patient") else SLIDE
    if (listing := file.with_suffix(".txt")).is_file():
        return [line.strip() for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()], SLIDE
    if (listing := file.with_suffix(".csv")).is_file():
        return _csv_ids(listing)
    return None, ""


def _csv_ids(listing: Path) -> tuple[list[str], str]:
    import pandas as pd

    table = pd.read_csv(listing, dtype=str, keep_default_na=False)
    for name in ID_NAMES:
        if name in table.columns:
            return list(table[name]), PATIENT if name.startswith("patient") else SLIDE
    raise DataError("no column slide_id or patient_id", str(listing), "name the column of the ids slide_id")
