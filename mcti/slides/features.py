"""The feature store: one HDF5 file a slide, whole or absent, the same bytes for the same slide and settings.

`features` (N, D), `coords` (N, 2) int64 (level-0 pixels of the top-left corner, rows sorted by y then x),
`tissue_fraction` (N,) float32, `failed_coords` (M, 2) int64. The attributes of `coords` are those that TRIDENT's
readers expect; the root's say where the numbers come from (docs/slides.md). No dates, no paths.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mcti import storage
from mcti.errors import DataError
from mcti.params import ExtractParams, TissueParams
from mcti.slides import hdf5, tiles, tissue
from mcti.slides.encoders import Identity
from mcti.slides.probe import Facts
from mcti.slides.tiles import Grid

SCHEMA_VERSION = 1
IMPORTED = "imported from "
"""How the key of features begins that another tool made."""
# The encoder enters by its identity, not by the path of its file.
_NOT_IN_KEY = {"slides", "encoder", "workers", "accept_licences", "cache", "cache_gib"}
_NOT_IN_KEY |= {"slide_minutes", "max_failed_slides_share"}
_CHUNK_ROWS = 256  # chunks of one row, as some tools write, read 7-20 times slower


@dataclass(frozen=True)
class Block:
    """Some rows of a slide: features (n, D), coords (n, 2), tissue fraction (n,); and what was left out."""

    features: NDArray[Any]
    coords: NDArray[np.int64]
    tissue_fraction: NDArray[np.float32]
    failed: NDArray[np.int64]
    blurred: int


@dataclass(frozen=True)
class Stored:
    """A feature file as the table of slides needs it. `content`: the id of the slide's content."""

    key: str
    content: str
    tiles: int
    failed_tiles: int
    mpp: float
    mpp_source: str
    reader: str
    width: int
    height: int

    @property
    def imported(self) -> bool:
        """Whether another tool made them (exchange.py): no slide of ours gives them again."""
        return self.key.startswith(IMPORTED)


def key(content: str, mpp: float | None, params: ExtractParams, encoder: Identity, drawn: str = "") -> str:
    """SHA-256 over all that the features depend on: slide, manifest mpp, settings, encoder, drawn mask, schema."""
    settings = params.model_dump(mode="json", exclude=_NOT_IN_KEY)
    settings["tissue"].pop("masks")
    parts = [SCHEMA_VERSION, content, mpp, settings, asdict(encoder), tissue.METHOD, tiles.METHOD, drawn]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def stored(path: Path | BinaryIO) -> Stored | None:
    """What a feature file says of itself; None when there is none, or it is broken or of another schema."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            root, (coords, table) = file.id, (h5py.h5d.open(file.id, name) for name in (b"coords", b"features"))
            if hdf5.attribute(root, "schema_version") != SCHEMA_VERSION:
                return None
            found = Stored(
                key=str(hdf5.attribute(root, "key")),
                content=str(hdf5.attribute(root, "slide_content_id", "")),
                tiles=int(hdf5.attribute(root, "tiles_kept")),
                failed_tiles=int(hdf5.attribute(root, "tiles_failed")),
                mpp=float(hdf5.attribute(root, "mpp_x")),
                mpp_source=str(hdf5.attribute(root, "mpp_source")),
                reader=str(hdf5.attribute(root, "reader")),
                width=int(hdf5.attribute(coords, "level0_width")),
                height=int(hdf5.attribute(coords, "level0_height")),
            )
            rows = table.shape[0]
    except (OSError, KeyError, RuntimeError):
        return None
    return found if found.tiles == rows else None


def stored_key(path: Path) -> str:
    """The key that a feature file states; empty when there is none, or it is broken."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return str(hdf5.attribute(file.id, "key"))
    except (OSError, KeyError, RuntimeError):
        return ""


def read(path: Path) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Features (N, D) and coords (N, 2) of one file.

    Raises
        DataError: no feature file, or a broken one.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return file["features"][:], file["coords"][:]
    except (OSError, KeyError, RuntimeError) as error:
        raise DataError(f"not a feature file ({error})", str(path), "run mcti extract again") from error


@dataclass(frozen=True)
class SlideFeatures:
    """The feature file of one slide, by `mcti extract` or by another tool, as a dataset reads it.

    features     (N, D) float32
    coordinates  (N, 2) int64 top-left corners in level-0 pixels; None: the file has none
    provenance   the attributes of PROVENANCE that the file has
    tile_counts  tiles that were candidate, kept, blurred and failed, and the summed tissue fraction of the kept ones
                 (`tissue`); empty where the file does not count them
    """

    features: NDArray[np.float32]
    coordinates: NDArray[np.int64] | None
    provenance: Mapping[str, Any]
    tile_counts: Mapping[str, float]


PROVENANCE = ("encoder", "encoder_weights_sha256", "encoder_preprocessing", "target_mpp", "tissue_method")
"""Root attributes that describe how features were extracted; files of other tools may lack some."""


def read_slide(location: storage.Location) -> SlideFeatures:
    """Features, coordinates and attributes of one feature file, local or in S3, in one read.

    Raises
        DataError: the file has no table `features`.
    """
    import h5py

    with storage.local_copy(location) as path, storage.translating_os_errors(location), h5py.File(path, "r") as file:
        if "features" not in file or file["features"].ndim != 2:
            raise DataError("no table `features` of patches and their values", str(location), "extract the slide again")
        features = file["features"][:].astype(np.float32, copy=False)
        has_coordinates = "coords" in file and file["coords"].shape == (len(features), 2)
        values = {name: file.attrs[name] for name in PROVENANCE if name in file.attrs}
        return SlideFeatures(
            features=features,
            coordinates=file["coords"][:].astype(np.int64) if has_coordinates else None,
            provenance={
                n: value.item() if isinstance(value, np.generic) else str(value) for n, value in values.items()
            },
            tile_counts=_tile_counts(file),
        )


def _tile_counts(file: Any) -> dict[str, float]:
    tissue, names = file.get("tissue_fraction"), ("candidate", "kept", "blurred", "failed")
    if tissue is None or not len(tissue) or len(tissue) != len(file["features"]):
        return {}
    if not all(f"tiles_{name}" in file.attrs for name in names):
        return {}
    return {name: float(file.attrs[f"tiles_{name}"]) for name in names} | {"tissue": float(tissue[:].sum(dtype=float))}


def write(
    out: Path, blocks: Iterable[Block], width: int, dtype: str, root: dict[str, Any], grid: dict[str, Any]
) -> int:
    """Write blocks in their order to `out`, whole or not at all; the number of rows.

    `root`, `grid`: attributes of the file and of `coords`; the counts are added here.

    Raises
        OperationalError: no room, no permission.
    """
    with storage.replacing(out) as draft, hdf5.create(draft) as (file, check):
        counts = _fill(file, _while_well(blocks, check), width, dtype)
        for name, value in sorted({**root, **counts}.items()):
            file.attrs[name] = value
        for name, value in grid.items():
            file["coords"].attrs[name] = value
    return int(counts["tiles_kept"])


def _fill(file: Any, blocks: Iterable[Block], width: int, dtype: str) -> dict[str, int]:
    tables = {
        "features": _table(file, "features", (width,), dtype),
        "coords": _table(file, "coords", (2,), "int64"),
        "tissue_fraction": _table(file, "tissue_fraction", (), "float32"),
        "failed_coords": _table(file, "failed_coords", (2,), "int64"),
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


def _table(file: Any, name: str, row: tuple[int, ...], dtype: str) -> Any:
    return file.create_dataset(
        name, (0, *row), dtype, maxshape=(None, *row), chunks=(_CHUNK_ROWS, *row), track_times=False
    )


def _append(table: Any, rows: NDArray[Any]) -> None:
    start = len(table)
    table.resize(start + len(rows), axis=0)
    table[start:] = rows


def _while_well(blocks: Iterable[Block], check: Callable[[], None]) -> Iterator[Block]:
    """The blocks, as long as the disk takes them: no slide is decoded for hours onto a full one."""
    for block in blocks:
        check()
        yield block


def attributes(
    content: str, facts: Facts, params: ExtractParams, encoder: Identity, made_from: str
) -> dict[str, str | float | int]:
    """The root attributes of a slide's file; `made_from` is its key."""
    return {
        "schema_version": SCHEMA_VERSION,
        "key": made_from,
        "slide_content_id": content,
        "mpp_x": facts.mpp[0],
        "mpp_y": facts.mpp[1],
        "mpp_source": facts.mpp_source,
        "target_mpp": params.resolution,
        "reader": facts.reader,
        "vendor": facts.vendor,
        "compression": facts.compression,
        "encoder": encoder.name,
        "encoder_weights_sha256": encoder.weights_sha256,
        "encoder_preprocessing": encoder.preprocessing,
        "tissue_method": tissue.METHOD,
        "tissue_parameters_sha256": _hash(params.tissue),
    }


def grid_attributes(slide_id: str, facts: Facts, params: ExtractParams, grid: Grid) -> dict[str, str | float | int]:
    """The attributes of `coords`, named as TRIDENT's readers expect them."""
    return {
        "name": slide_id,
        "patch_size": params.tile,
        "patch_size_level0": grid.footprint[0],
        "level0_magnification": round(10.0 / facts.mpp[0]),
        "target_magnification": round(10.0 / params.resolution),
        "overlap": params.overlap,
        "level0_width": facts.width,
        "level0_height": facts.height,
    }


def _hash(params: TissueParams) -> str:
    return hashlib.sha256(
        json.dumps(params.model_dump(mode="json", exclude={"masks"}), sort_keys=True).encode()
    ).hexdigest()
