"""CLAM (2024): `h5_files/<slide>.h5` and `pt_files/<slide>.pt` of the features, `patches/<slide>.h5` of the tiling.

h5_files    features (N, D), coords (N, 2) level-0 pixels; no attributes
pt_files    the features (N, D) alone, in the same order
patches     coords (N, 2) with patch_size (pixels of patch_level), patch_level, downsample, level_dim
"""

from pathlib import Path
from typing import Any

import numpy as np

from mcti.errors import DataError
from mcti.slides import hdf5
from mcti.slides.feature_sets import entries, plain
from mcti.slides.feature_sets.entries import SetEntry
from mcti.slides.portable import PortableFeatures, from_arrays


def find(source: Path, coordinates: Path | None = None) -> list[SetEntry]:
    """The slides of a folder of features; a slide in both folders is read from `h5_files`.

    coordinates  CLAM's folder `patches`; None: the folder of this name in `source`
    Raises DataError when there is no file.
    """
    tables = _by_name(source / "h5_files", ".h5") or _by_name(source, ".h5", recursive=False)
    tensors = _by_name(source / "pt_files", ".pt") or _by_name(source, ".pt", recursive=False)
    tilings = _by_name(coordinates or source / "patches", ".h5")
    files = tensors | tables
    if not files:
        raise entries.missing(source, ".h5", "clam")
    return [entries.of_file(file, _read_file, tilings.get(name)) for name, file in sorted(files.items())]


def _by_name(folder: Path, suffix: str, *, recursive: bool = True) -> dict[str, Path]:
    files = entries.files_below(folder, suffix)
    return {file.stem: file for file in files if recursive or file.parent == folder}


def _read_file(file: Path, tiling: Path | None) -> PortableFeatures:
    if file.suffix == ".pt":
        slide = plain.read_file(file)
        values, coords, grid, root = slide.features, None, {}, {}
    else:
        with hdf5.open_foreign(file) as h5:
            values, coords = h5["features"][()], h5["coords"][()]
            grid, root = (hdf5.plain_attributes(owner) for owner in (h5["coords"], h5))
    if tiling is not None:
        coords, grid = _tiling(tiling, file, values, coords, grid)
    grid = entries.without_paths(grid)
    attributes = {name: root[name] for name in ("encoder",) if name in root}
    return from_arrays(file.stem, str(file), values, coords, _level0_sizes(grid), attributes)


def _tiling(tiling: Path, file: Path, values: Any, coords: Any, grid: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Coordinates and attributes of `patches/<slide>.h5`, whose rows are those of the features.

    Raises DataError when it has another number of tiles, or other coordinates than the features.
    """
    with hdf5.open_foreign(tiling) as h5:
        corners, attributes = h5["coords"][()], hdf5.plain_attributes(h5["coords"])
    rows = len(values[0]) if values.ndim == 3 else len(values)
    if len(corners) != rows or (coords is not None and not np.array_equal(np.sort(corners, 0), np.sort(coords, 0))):
        what = f"other tiles than {tiling} ({len(corners)} corners, {rows} rows of features)"
        raise DataError(what, str(file), "give the patches folder of the run that extracted these features")
    return (corners if coords is None else coords), attributes | grid


def _level0_sizes(grid: dict[str, Any]) -> dict[str, Any]:
    """The attributes with sizes in level-0 pixels: `downsample` is the size of a pixel of patch_level in them."""
    scale = [float(factor) for factor in np.ravel(grid.get("downsample", (1.0, 1.0)))]
    added = {}
    if "patch_size" in grid and ("downsample" in grid or int(grid.get("patch_level", 0)) == 0):
        added["patch_size_level0"] = round(int(grid["patch_size"]) * scale[0])
    if "level_dim" in grid and len(np.ravel(grid["level_dim"])) == 2:
        sides = zip(("level0_width", "level0_height"), np.ravel(grid["level_dim"]), (scale[0], scale[-1]), strict=True)
        added |= {name: round(int(side) * factor) for name, side, factor in sides}
    return grid | added
