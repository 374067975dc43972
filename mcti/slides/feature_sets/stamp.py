"""STAMP 2.0 to 2.5: one HDF5 file per slide (tiles), or one vector a slide or patient.

Tiles       feats (N, D) float16, coords (N, 2) in µm; attributes unit, extractor, feat_type, tile_size_um (2.0:
            tile_size), tile_size_px
Embeddings  feats (D,) or (1, D) without coords; attributes encoder and feat_type (slide | patient). Releases before
            2.2 write one file per cohort with a dataset (D,) for each slide or patient.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mcti.errors import DataError
from mcti.slides import hdf5
from mcti.slides.feature_sets import entries
from mcti.slides.feature_sets.entries import SetEntry
from mcti.slides.portable import PATIENT, SLIDE, MissingMpp, PortableFeatures, from_arrays


def find(source: Path) -> list[SetEntry]:
    """The files of a folder and its subfolders (STAMP keeps those of the slides), or the members of one file.

    Raises DataError when there is no file.
    """
    files = [source] if source.is_file() else entries.files_below(source, ".h5")
    if not files:
        raise entries.missing(source, ".h5", "stamp")
    if len(files) == 1 and (members := _members(files[0])):
        return members
    return [SetEntry(file.stem, str(file), partial(_read_file, file)) for file in files]


def _members(file: Path) -> list[SetEntry]:
    """The slides or patients of the one file of a cohort; empty for the file of one slide."""
    with hdf5.open_foreign(file) as h5:
        if not all(_is_vector(item) for item in h5.values()) or "feats" in h5:
            return []
        root = hdf5.plain_attributes(h5)
        vectors = {name: np.asarray(item[()]) for name, item in h5.items()}
    attributes = {"encoder": str(root["encoder"])} if "encoder" in root else {}
    return [
        entries.of_member(file, name, values, SLIDE, attributes=attributes) for name, values in sorted(vectors.items())
    ]


def _is_vector(item: Any) -> bool:
    shape: tuple[int, ...] = getattr(item, "shape", ())
    return len(shape) == 1 or (len(shape) == 2 and shape[0] == 1)


def _read_file(file: Path, mpp: float | None) -> PortableFeatures:
    with hdf5.open_foreign(file) as h5:
        values, root = h5["feats"][()], hdf5.plain_attributes(h5)
        coords = h5["coords"][()].astype(np.float64) if "coords" in h5 else None
    attributes = entries.without_paths(root)
    level = str(attributes.get("feat_type", ""))
    if level in (SLIDE, PATIENT) or coords is None:
        attributes |= {"encoder": str(attributes["encoder"])} if "encoder" in attributes else {}
        return from_arrays(file.stem, str(file), values, None, None, attributes, level)
    _check_unit(attributes, file)
    tile_um = float(attributes.get("tile_size_um", attributes.get("tile_size", 0.0)))
    tile_px = int(attributes.get("tile_size_px", 0))
    attributes |= {"encoder": str(attributes["extractor"])} if "extractor" in attributes else {}
    attributes |= {"target_mpp": tile_um / tile_px} if tile_um and tile_px else {}
    grid: dict[str, Any] = {"patch_size": tile_px} if tile_px else {}
    if mpp is None:
        hint = "enter its mpp (µm/px of level 0) in the table of slides, or add --mpp"
        raise MissingMpp("STAMP stores coordinates in µm, and the slide's mpp is not known", str(file), hint)
    grid |= {"patch_size_level0": round(tile_um / mpp)} if tile_um else {}
    return from_arrays(file.stem, str(file), values, coords / mpp, grid, attributes)


def _check_unit(attributes: dict[str, Any], file: Path) -> None:
    """Micrometres, as STAMP 2 states by `unit` or by `tile_size_um`."""
    if str(attributes.get("unit", "")) != "um" and "tile_size_um" not in attributes:
        what = f"the unit of the coordinates is {attributes.get('unit')!r}, not 'um'"
        raise DataError(what, str(file), "extract again with STAMP 2")
