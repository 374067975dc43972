"""Feature files: one HDF5 file per slide, complete or absent; equal slides and settings give equal bytes.

Datasets    features (N, D); coords (N, 2) int64, level-0 pixels of the top-left corner, rows sorted by y, then x;
            tissue_fraction (N,) float32; failed_coords (M, 2) int64
Attributes  of coords: the names that TRIDENT's readers expect; of the file: the provenance (docs/slides.md).
            No dates and no paths.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mcti import storage
from mcti.errors import DataError
from mcti.params import ExtractParams, TissueParams
from mcti.params.result_settings import RESULT_NEUTRAL
from mcti.slides import hdf5, tiles, tissue
from mcti.slides.encoder_protocol import EncoderIdentity
from mcti.slides.probe import SlideInfo
from mcti.slides.tiles import Grid
from mcti.storage import Location

SCHEMA_VERSION = 1
IMPORTED_PREFIX = "imported from "
"""First words of the key of features that another tool made."""
# The encoder enters the key by its identity, not by the path of its file.
_NOT_IN_KEY = {*RESULT_NEUTRAL["extract"], "encoder", "slide_minutes", "max_failed_slides_share"}
_NOT_IN_KEY |= {"source", "import_"}  # this key is that of features that were extracted from a slide
PATCH_SIZE = "target_patch_size"
"""Attribute of imported features: edge of a patch in pixels at `target_mpp`; extracted ones have it in their grid."""
PROVENANCE = (
    *("encoder", "encoder_weights_sha256", "encoder_preprocessing", "target_mpp", PATCH_SIZE, "tissue_method", "level"),
)
"""Attributes that describe how features were extracted; files of other tools may lack some."""
_CHUNK_ROWS = 256  # files with chunks of one row, as some tools write them, take 7 to 20 times longer to read
_READ_ERRORS = (OSError, KeyError, RuntimeError)  # what h5py raises for a broken file


@dataclass(frozen=True)
class TileBlock:
    """Some tiles of a slide: features (n, D), coords (n, 2), tissue_fraction (n,); failed: coords (m, 2) of the tiles
    that did not decode; blurred: number of tiles that are out of focus.
    """

    features: NDArray[Any]
    coords: NDArray[np.int64]
    tissue_fraction: NDArray[np.float32]
    failed: NDArray[np.int64]
    blurred: int


@dataclass(frozen=True)
class FeatureFileInfo:
    """The facts of a feature file that the table of slides lists. `content_id`: hash of the slide's content.

    mpp, width, height  None in imported features of a slide whose resolution or size is not known
    """

    key: str
    content_id: str
    tiles: int
    failed_tiles: int
    mpp: float | None
    mpp_source: str
    reader: str
    width: int | None
    height: int | None

    @property
    def is_imported(self) -> bool:
        """Whether another tool made the features (exchange.py). They cannot be extracted again."""
        return self.key.startswith(IMPORTED_PREFIX)


@dataclass(frozen=True)
class SlideFeatures:
    """The features of one slide as a dataset reads them.

    features     (N, D) float32
    coordinates  (N, 2) int64, level-0 pixels of the top-left corners; None when the file has none
    provenance   the attributes of PROVENANCE that the file has
    tile_counts  numbers of candidate, kept, blurred and failed tiles, and `tissue`, the summed tissue fraction of the
                 kept ones; empty for files of other tools, which do not count tiles
    """

    features: NDArray[np.float32]
    coordinates: NDArray[np.int64] | None
    provenance: Mapping[str, Any]
    tile_counts: Mapping[str, float]


def compute_key(
    content_id: str, mpp: float | None, params: ExtractParams, encoder: EncoderIdentity, drawn_mask: str = ""
) -> str:
    """SHA-256 over everything the features depend on: slide, mpp of the manifest, settings, encoder, mask, schema."""
    settings = params.model_dump(mode="json", exclude=_NOT_IN_KEY)
    settings["tissue"].pop("masks")
    parts = [SCHEMA_VERSION, content_id, mpp, settings, asdict(encoder), tissue.METHOD, tiles.METHOD, drawn_mask]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read_info(path: Path | BinaryIO) -> FeatureFileInfo | None:
    """The facts of a feature file; None when there is no file, or it is broken or has another schema version."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            root, (coords, table) = file.id, (h5py.h5d.open(file.id, name) for name in (b"coords", b"features"))
            if hdf5.read_attribute(root, "schema_version") != SCHEMA_VERSION:
                return None
            info = FeatureFileInfo(
                key=str(hdf5.read_attribute(root, "key")),
                content_id=str(hdf5.read_attribute(root, "slide_content_id", "")),
                tiles=int(hdf5.read_attribute(root, "tiles_kept")),
                failed_tiles=int(hdf5.read_attribute(root, "tiles_failed")),
                mpp=None if math.isnan(mpp := float(hdf5.read_attribute(root, "mpp_x", math.nan))) else mpp,
                mpp_source=str(hdf5.read_attribute(root, "mpp_source")),
                reader=str(hdf5.read_attribute(root, "reader")),
                width=int(hdf5.read_attribute(coords, "level0_width", 0)) or None,
                height=int(hdf5.read_attribute(coords, "level0_height", 0)) or None,
            )
            rows = table.shape[0]
    except _READ_ERRORS:
        return None
    return info if info.tiles == rows else None


def read_key(path: Path) -> str:
    """The key of a feature file; empty when there is no file, or it is broken."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return str(hdf5.read_attribute(file.id, "key"))
    except _READ_ERRORS:
        return ""


class FeatureFile:
    """An open feature file (`open_file`). Each call reads only what it returns."""

    def __init__(self, file: Any, table: Any) -> None:
        self._file, self._table = file, table
        self.tiles, self.width = (int(size) for size in table.shape)

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the file as Python values (numbers, texts, arrays)."""
        return hdf5.plain_attributes(self._file)

    @cached_property
    def _coords(self) -> Any:
        """The dataset `coords`; None in a file without it. Opening a dataset takes longer than reading a small one."""
        return self._file.get("coords")

    @property
    def level(self) -> str:
        """patch | slide | patient: what one row stands for; empty: one row, and the file does not state its level."""
        default = "" if self.tiles == 1 and self.coords() is None else "patch"
        return str(self.attributes.get("level", default))

    @property
    def grid(self) -> dict[str, Any]:
        """The attributes of `coords` as Python values; empty in a file without coords."""
        return {} if self._coords is None else hdf5.plain_attributes(self._coords)

    def features(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Features (n, D) of the rows from `start` to `stop`; all rows by default."""
        rows: NDArray[Any] = self._table[start:stop]
        return rows

    def coords(self) -> NDArray[np.int64] | None:
        """Level-0 pixels (N, 2) of each tile's top-left corner; None when the file has no row for each tile."""
        if self._coords is None or self._coords.shape != (self.tiles, 2):
            return None
        return np.asarray(self._coords[:], np.int64)

    def tissue_fraction(self) -> NDArray[np.float32] | None:
        """Share of tissue (N,) in each tile; None when the file has no value for each tile."""
        if "tissue_fraction" not in self._file or self._file["tissue_fraction"].shape != (self.tiles,):
            return None
        return np.asarray(self._file["tissue_fraction"][:], np.float32)

    def tile_counts(self) -> dict[str, float]:
        """Numbers of candidate, kept, blurred and failed tiles, and `tissue`, the sum of tissue_fraction (N,); empty
        when the file does not count tiles.
        """
        attributes, names = self.attributes, ("candidate", "kept", "blurred", "failed")
        fractions = self.tissue_fraction()
        if fractions is None or not len(fractions) or not all(f"tiles_{name}" in attributes for name in names):
            return {}
        counts = {name: float(attributes[f"tiles_{name}"]) for name in names}
        return counts | {"tissue": float(fractions.sum(dtype=float))}


@contextmanager
def open_file(location: Location) -> Iterator[FeatureFile]:
    """Open one feature file, of `mcti extract` or of another tool with the same datasets; local or on S3.

    Raises DataError when the file is missing or broken, or has no table `features` (N, D).
    Raises OperationalError when S3 does not answer.
    """
    import h5py

    with storage.local_copy(location) as path:
        try:
            with h5py.File(path, "r") as file:
                table = file.get("features")
                if getattr(table, "ndim", 0) != 2:
                    what = "no table `features` with one row per tile"
                    raise DataError(what, str(location), "extract the slide again")
                yield FeatureFile(file, table)
        except _READ_ERRORS as error:
            raise DataError(f"not a feature file ({error})", str(location), "run mcti extract again") from error


def read(location: Location) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
    """Features (N, D) and coords (N, 2) of one file; None in place of coords when the file has none.

    Raises DataError when the file is missing or broken.
    """
    with open_file(location) as file:
        return file.features(), file.coords()


def read_slide(location: Location) -> SlideFeatures:
    """Features, coordinates, provenance and counts of one file, in one read.

    Raises DataError when the file is missing or broken.
    """
    with open_file(location) as file:
        attributes, grid = dict(file.attributes), file.grid
        if "patch_size" in grid and "target_mpp" in attributes:
            attributes.setdefault(PATCH_SIZE, grid["patch_size"])
        values = {name: attributes[name] for name in PROVENANCE if name in attributes}
        provenance = {name: value if isinstance(value, int | float) else str(value) for name, value in values.items()}
        features = file.features().astype(np.float32, copy=False)
        return SlideFeatures(features, file.coords(), provenance, file.tile_counts())


def write(
    out: Path, blocks: Iterable[TileBlock], width: int, dtype: str, root: dict[str, Any], grid: dict[str, Any]
) -> int:
    """Write the blocks in their order to `out`, completely or not at all; returns the number of rows.

    root, grid  attributes of the file and of `coords`; the counts of tiles are added here
    Raises OperationalError when the disk is full or the folder is not writable.
    """
    with storage.replacing(out) as draft, hdf5.create(draft) as (file, check_disk):
        counts = _fill(file, _with_check(blocks, check_disk), width, dtype)
        for name, value in sorted({**root, **counts}.items()):
            file.attrs[name] = value
        for name, value in grid.items():
            file["coords"].attrs[name] = value
    return int(counts["tiles_kept"])


def _fill(file: Any, blocks: Iterable[TileBlock], width: int, dtype: str) -> dict[str, int]:
    tables = {
        "features": _create_table(file, "features", (width,), dtype),
        "coords": _create_table(file, "coords", (2,), "int64"),
        "tissue_fraction": _create_table(file, "tissue_fraction", (), "float32"),
        "failed_coords": _create_table(file, "failed_coords", (2,), "int64"),
    }
    blurred = 0
    for block in blocks:
        _append(tables["features"], block.features.astype(dtype))
        _append(tables["coords"], block.coords)
        _append(tables["tissue_fraction"], block.tissue_fraction)
        _append(tables["failed_coords"], block.failed)
        blurred += block.blurred
    kept, failed = len(tables["features"]), len(tables["failed_coords"])
    return {
        "tiles_candidate": kept + failed + blurred,
        "tiles_kept": kept,
        "tiles_failed": failed,
        "tiles_blurred": blurred,
    }


def _create_table(file: Any, name: str, row_shape: tuple[int, ...], dtype: str) -> Any:
    return file.create_dataset(
        name, (0, *row_shape), dtype, maxshape=(None, *row_shape), chunks=(_CHUNK_ROWS, *row_shape), track_times=False
    )


def _append(table: Any, rows: NDArray[Any]) -> None:
    start = len(table)
    table.resize(start + len(rows), axis=0)
    table[start:] = rows


def _with_check(blocks: Iterable[TileBlock], check_disk: Callable[[], None]) -> Iterator[TileBlock]:
    """The blocks, with a check of the disk before each: a full disk must not cost hours of decoding."""
    for block in blocks:
        check_disk()
        yield block


def file_attributes(
    content_id: str, info: SlideInfo, params: ExtractParams, encoder: EncoderIdentity, key: str
) -> dict[str, str | float | int]:
    """The attributes of a slide's feature file; resolutions in µm/px."""
    return {
        "schema_version": SCHEMA_VERSION,
        "key": key,
        "slide_content_id": content_id,
        "mpp_x": info.mpp[0],
        "mpp_y": info.mpp[1],
        "mpp_source": info.mpp_source,
        "target_mpp": params.resolution,
        "reader": info.reader,
        "vendor": info.vendor,
        "compression": info.compression,
        "encoder": encoder.name,
        "encoder_weights_sha256": encoder.weights_sha256,
        "encoder_preprocessing": encoder.preprocessing,
        "tissue_method": tissue.METHOD,
        "tissue_parameters_sha256": _tissue_sha256(params.tissue),
    }


def grid_attributes(slide_id: str, info: SlideInfo, params: ExtractParams, grid: Grid) -> dict[str, str | float | int]:
    """The attributes of `coords`, named as TRIDENT's readers expect them; sizes in pixels."""
    return {
        "name": slide_id,
        "patch_size": params.tile,
        "patch_size_level0": grid.footprint[0],
        "level0_magnification": round(10.0 / info.mpp[0]),
        "target_magnification": round(10.0 / params.resolution),
        "overlap": params.overlap,
        "level0_width": info.width,
        "level0_height": info.height,
    }


def _tissue_sha256(params: TissueParams) -> str:
    return hashlib.sha256(
        json.dumps(params.model_dump(mode="json", exclude={"masks"}), sort_keys=True).encode()
    ).hexdigest()
