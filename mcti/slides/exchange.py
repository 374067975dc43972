"""Feature sets of other tools: import and export.

Values that a format does not store are not invented: `.pt` has no coordinates; STAMP stores micrometres, so level-0
pixels need the slide's mpp. Nothing is read by pickle: tensors are read with weights_only=True.
"""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcti import storage
from mcti.errors import DataError, UsageError, did_you_mean
from mcti.slides import features, hdf5
from mcti.slides.feature_sets import anndata_files, clam, entries, plain, slide2vec, stamp, tables, trident
from mcti.slides.feature_sets.entries import SetEntry
from mcti.slides.features import TileBlock
from mcti.slides.portable import PATCH, PATIENT, SLIDE, PortableFeatures
from mcti.storage import Location

FORMATS = ("trident", "clam", "stamp", "slide2vec", "pt", "h5", "npy", "parquet", "anndata")
"""Formats that are imported."""
WITH_TILING = ("clam", "slide2vec")
"""Formats whose tiling is in a folder of its own."""
EXPORT_FORMATS = ("trident", "clam", "stamp", "pt", "anndata")
_GRID = (
    *("name", "patch_size", "patch_size_level0", "level0_magnification", "target_magnification", "overlap"),
    *("level0_width", "level0_height"),
)
_CLAM = ("patch_size", "patch_level", "downsample", "downsampled_level_dim", "level_dim", "name")
_STAMP = ("extractor", "feat_type", "code_hash", "stamp_version", "tile_size_um", "tile_size_px")
_SIZES = ("level0_width", "level0_height", "patch_size", "patch_size_level0")


def check_format(format_name: str, formats: tuple[str, ...] = FORMATS) -> None:
    """Refuse an unknown format.

    Raises UsageError.
    """
    if format_name not in formats:
        raise UsageError(f"unknown format {format_name!r}", "--format", did_you_mean(format_name, formats))


def find_entries(source: Path, format_name: str, coordinates: Path | None = None) -> list[SetEntry]:
    """The slides or patients of a feature set, a file or folder; none is read yet.

    coordinates  folder with the tiling of another step: CLAM's `patches`, hs2p's `tiles`; None: as in the set
    Raises DataError when there are no files of the format.
    Raises UsageError for an unknown format.
    """
    check_format(format_name)
    if format_name in WITH_TILING:
        return {"clam": clam.find, "slide2vec": slide2vec.find}[format_name](source, coordinates)
    if format_name in plain.SUFFIXES:
        return plain.find(source, format_name)
    finders = {"trident": trident.find, "stamp": stamp.find, "parquet": tables.find, "anndata": anndata_files.find}
    return finders[format_name](source)


def write_slide(slide: PortableFeatures, folder: Path, format_name: str) -> None:
    """Write one slide into `folder` in a format; each file complete or absent.

    Raises DataError when the slide lacks what the format needs (coordinates, mpp).
    Raises UsageError for an unknown format.
    """
    check_format(format_name, EXPORT_FORMATS)
    writers = {"trident": _to_trident, "clam": _to_clam, "stamp": _to_stamp, "pt": _to_pt}
    writers.get(format_name, anndata_files.write_file)(slide, folder)


def from_store(location: Location) -> PortableFeatures:
    """A slide of a feature store, from its local or S3 feature file.

    Raises DataError when the file is missing or broken.
    """
    with features.open_file(location) as file:
        grid, attributes = entries.without_paths(file.grid), entries.without_paths(file.attributes)
        return PortableFeatures(_stem(location), file.features(), file.coords(), grid, attributes, file.level)


def read_header(location: Location) -> PortableFeatures:
    """A slide of a feature store without its features and coordinates.

    Raises DataError when the file is missing or broken.
    """
    with features.open_file(location) as file:
        grid, attributes = entries.without_paths(file.grid), entries.without_paths(file.attributes)
        return PortableFeatures(_stem(location), np.empty((0, 0)), None, grid, attributes, file.level)


def to_store(slide: PortableFeatures, out: Path, format_name: str) -> None:
    """Write a slide of another tool as a feature file; its key states the format that it was imported from.

    Sizes that are not known are left out.
    Raises OperationalError when the disk is full or the folder is not writable.
    """
    order = None if slide.coords is None else np.lexsort((slide.coords[:, 0], slide.coords[:, 1]))
    values = slide.features if order is None else slide.features[order]
    coords = np.zeros((0, 2), np.int64) if slide.coords is None or order is None else slide.coords[order]
    dtype = "float16" if values.dtype == np.float16 else "float32"
    root = {
        "schema_version": features.SCHEMA_VERSION,
        "key": features.IMPORTED_PREFIX + format_name,
        "reader": format_name,
        "encoder": "unknown",
        "mpp_source": "",
        **slide.attributes,
        "rows_removed": slide.removed,
    }
    root |= {"level": slide.level} if slide.level else {}
    grid = {"name": slide.slide_id, **{name: value for name, value in slide.grid.items() if _is_known(name, value)}}
    block = TileBlock(values, coords, np.zeros(0, np.float32), np.zeros((0, 2), np.int64), 0)
    features.write(out, [block], values.shape[1], dtype, root, grid)


def _to_trident(slide: PortableFeatures, folder: Path) -> None:
    coords = _coords(slide, "TRIDENT")
    grid = {name: slide.grid[name] for name in _GRID if name in slide.grid}
    tables = {"features": slide.features, "coords": coords}
    hdf5.write_tables(folder / f"{slide.slide_id}.h5", tables, {"coords": grid}, {})


def _to_clam(slide: PortableFeatures, folder: Path) -> None:
    """CLAM's attributes where the features came from CLAM; else those of level 0, where a tile is its footprint."""
    coords = _coords(slide, "CLAM")
    grid: dict[str, Any] = {"patch_level": 0, "downsample": np.array([1.0, 1.0]), "name": slide.slide_id}
    if "patch_level" in slide.grid:
        grid |= {name: slide.grid[name] for name in _CLAM if name in slide.grid}
    elif "patch_size_level0" in slide.grid:
        grid["patch_size"] = slide.grid["patch_size_level0"]
    if "level_dim" not in grid and slide.grid.get("level0_width"):
        grid["level_dim"] = np.array([slide.grid["level0_width"], slide.grid["level0_height"]])
    tables = {"features": slide.features, "coords": coords}
    hdf5.write_tables(folder / "h5_files" / f"{slide.slide_id}.h5", tables, {"coords": grid}, {})
    _to_pt(slide, folder / "pt_files")


def _to_stamp(slide: PortableFeatures, folder: Path) -> None:
    if slide.level != PATCH:
        stated = {"encoder": str(slide.attributes.get("encoder", "unknown")), "feat_type": slide.level or SLIDE}
        hdf5.write_tables(folder / f"{slide.slide_id}.h5", {"feats": slide.features[0]}, {}, stated)
        return
    mpp = float(slide.attributes.get("mpp_x", float("nan")))
    if not np.isfinite(mpp):
        what = "STAMP needs coordinates in µm, but the slide's mpp is unknown"
        raise DataError(what, slide.slide_id, "import the features with --mpp")
    coords = (_coords(slide, "STAMP") * mpp).astype(np.float32)
    extractor = slide.attributes.get("encoder", "unknown")
    root: dict[str, Any] = {"unit": "um", "extractor": extractor, "feat_type": "tile"}
    root |= {name: slide.attributes[name] for name in _STAMP if name in slide.attributes}
    if "patch_size_level0" in slide.grid and "tile_size_um" not in root:
        root["tile_size_um"] = float(slide.grid["patch_size_level0"]) * mpp
        root |= {"tile_size_px": int(slide.grid["patch_size"])} if slide.grid.get("patch_size") else {}
    tables: dict[str, NDArray[Any]] = {"feats": slide.features.astype(np.float16), "coords": coords}
    hdf5.write_tables(folder / f"{slide.slide_id}.h5", tables, {}, root)


def _to_pt(slide: PortableFeatures, folder: Path) -> None:
    import torch

    # A stream: with a path, torch writes the name of the temporary file into the archive.
    with storage.replacing(folder / f"{slide.slide_id}.pt") as draft, draft.open("wb") as stream:
        values = slide.features[0] if slide.level in (SLIDE, PATIENT) else slide.features
        torch.save(torch.from_numpy(np.ascontiguousarray(values)), stream)


def _coords(slide: PortableFeatures, format_name: str) -> NDArray[np.int64]:
    if slide.coords is None:
        what = f"{format_name} needs coordinates, but these features have none"
        hint = "export with --format pt" + ("" if slide.level == PATCH else ", or with --format stamp")
        raise DataError(what, slide.slide_id, hint)
    return slide.coords


def _stem(location: Location) -> str:
    return PurePosixPath(location).stem


def _is_known(name: str, value: Any) -> bool:
    """Whether an attribute states a value; a size of zero is an unknown size."""
    return name not in _SIZES or bool(value)
