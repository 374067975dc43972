"""slide2vec 4 to 7 with hs2p: `.pt` or `.npz` files with a sidecar `<id>.meta.json`.

tile_embeddings     (N, D); corners in tiles/<slide>.coordinates.npz (x, y in level-0 pixels), in the same order
slide_embeddings    (D,);   patient_embeddings  (D,), named by patient
meta.json           encoder_name, tile_size_lv0, requested_tile_size_px, requested_spacing_um
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mcti.errors import DataError
from mcti.slides.feature_sets import arrays as array_files
from mcti.slides.feature_sets import entries
from mcti.slides.feature_sets.entries import SetEntry
from mcti.slides.portable import PATCH, PATIENT, SLIDE, PortableFeatures, from_arrays

_LEVELS = {"tile_embeddings": PATCH, "slide_embeddings": SLIDE, "patient_embeddings": PATIENT}
_SUFFIXES = (".pt", ".npz")


def find(source: Path, coordinates: Path | None = None) -> list[SetEntry]:
    """The files of a folder of embeddings, or of a run with one such folder.

    coordinates  hs2p's folder `tiles`; None: the folder of this name in the run
    Raises DataError when there is no file, or the run has several sets.
    """
    folder = source if source.name in _LEVELS else entries.only_folder(source, tuple(_LEVELS), _SUFFIXES)
    files = [file for file in entries.files_below(folder, *_SUFFIXES) if not file.name.endswith(".coordinates.npz")]
    if not files:
        raise entries.missing(source, "/".join(_SUFFIXES), "slide2vec")
    tiles = coordinates or folder.parent / "tiles"
    level = _LEVELS.get(folder.name, "")
    return [entries.of_file(file, _read_file, tiles, level) for file in files]


def _read_file(file: Path, tiles: Path, level: str) -> PortableFeatures:
    meta = _json(file.with_name(f"{file.stem}.meta.json"))
    values = array_files.first(array_files.read_arrays(file), array_files.FEATURE_NAMES)
    if values is None:
        raise DataError("no array `features`", str(file), "write it with slide2vec again")
    stated = str(meta.get("artifact_type", "")).removesuffix("s")
    level = level or _LEVELS.get(f"{stated}s", "")
    attributes = {"encoder": str(meta["encoder_name"])} if meta.get("encoder_name") else {}
    if level in (SLIDE, PATIENT):
        return from_arrays(file.stem, str(file), values, None, None, attributes, level)
    corners, tiling = _corners(tiles, file.stem, len(values))
    grid, more = _sizes(meta, tiling)
    return from_arrays(file.stem, str(file), values, corners, grid, attributes | more, level)


def _corners(tiles: Path, name: str, rows: int) -> tuple[Any, dict[str, Any]]:
    """Corners (N, 2) and tiling of a slide; None without its file.

    Raises DataError when it has another number of tiles than the features.
    """
    file, tiling = tiles / f"{name}.coordinates.npz", _json(tiles / f"{name}.coordinates.meta.json")
    if not file.is_file():
        return None, tiling
    columns = array_files.read_arrays(file)
    corners = np.stack([columns["x"], columns["y"]], axis=1)
    if len(corners) != rows:
        what = f"{rows} rows of features, {len(corners)} tiles"
        raise DataError(what, str(file), "give the tiles folder of the run that extracted these features")
    return corners, tiling


def _sizes(meta: dict[str, Any], tiling: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes of the grid and of the file, as far as the two sidecars state them."""
    stated = {**tiling.get("tiling", {}), **{name: value for name, value in meta.items() if value is not None}}
    grid = {
        ours: int(stated[theirs])
        for ours, theirs in (("patch_size", "requested_tile_size_px"), ("patch_size_level0", "tile_size_lv0"))
        if stated.get(theirs)
    }
    dimensions = tiling.get("slide", {}).get("dimensions")
    if dimensions:
        grid |= {"level0_width": int(dimensions[0]), "level0_height": int(dimensions[1])}
    more: dict[str, Any] = {}
    if stated.get("requested_spacing_um"):
        more["target_mpp"] = float(stated["requested_spacing_um"])
    if spacing := tiling.get("slide", {}).get("base_spacing_um"):
        more |= {"mpp_x": float(spacing), "mpp_y": float(spacing), "mpp_source": "slide2vec"}
    return grid, more


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"not a JSON document ({error})", str(file), "write it with slide2vec again") from error
    return content if isinstance(content, dict) else {}
