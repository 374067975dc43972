"""AnnData 0.12: `<slide>.h5ad`, tiles as observations and features as variables, as `features_anndata` of wsidata 0.12.

X                   (N, D) features
obsm["spatial"]     (N, 2) level-0 pixels of the top-left corners; may be absent
uns                 slide_properties (mpp of level 0; shape: height, width) and tile_spec (width in pixels at mpp,
                    base_downsample), both optional; encoder, where mcti wrote the file
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mcti import storage
from mcti.errors import DataError, OperationalError
from mcti.slides.feature_sets import entries
from mcti.slides.feature_sets.entries import SetEntry
from mcti.slides.portable import PortableFeatures, from_arrays

SUFFIX = ".h5ad"


def find(source: Path) -> list[SetEntry]:
    """The entries of a folder with one file per slide, or of one file.

    Raises DataError when there is no file.
    """
    files = [source] if source.is_file() else entries.files_below(source, SUFFIX)
    if not files:
        raise entries.missing(source, SUFFIX, "anndata")
    return [entries.of_file(file, read_file) for file in files]


def read_file(file: Path) -> PortableFeatures:
    """The features of a file.

    Raises DataError when the file is broken or holds no features.
    """
    library = _library()
    try:
        table = library.read_h5ad(file)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"no AnnData file ({error})", str(file), "write it again with AnnData.write_h5ad") from error
    return from_anndata(table, file.stem, str(file))


def from_anndata(table: Any, slide_id: str, where: str) -> PortableFeatures:
    """The features (N, D) and corners (N, 2) of an AnnData object; where: for messages.

    Raises DataError when the shapes do not fit, or too many values are not finite.
    """
    if table.X is None:
        raise DataError("X is empty", where, "store the features as X")
    values = table.X.toarray() if hasattr(table.X, "toarray") else np.asarray(table.X)
    corners = table.obsm.get("spatial")
    grid, attributes = _sizes(table.uns)
    return from_arrays(slide_id, where, values, None if corners is None else np.asarray(corners), grid, attributes)


def to_anndata(slide: PortableFeatures) -> Any:
    """The AnnData object of one slide: obs = tiles, X = features (N, D), obsm["spatial"] = corners (N, 2)."""
    import pandas as pd

    tiles = pd.DataFrame({"slide_id": slide.slide_id}, index=[f"tile_{row}" for row in range(len(slide.features))])
    corners = {} if slide.coords is None else {"spatial": slide.coords}
    return _library().AnnData(X=slide.features, obs=tiles, obsm=corners, uns=_description(slide))


def write_file(slide: PortableFeatures, folder: Path) -> None:
    """Write one slide as `<slide_id>.h5ad`, completely or not at all."""
    with storage.replacing(folder / f"{slide.slide_id}{SUFFIX}") as draft:
        to_anndata(slide).write_h5ad(draft)


def _sizes(uns: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes of the coordinates and of the file, as far as they are stated."""
    properties, spec = dict(uns.get("slide_properties", {})), dict(uns.get("tile_spec", {}))
    grid: dict[str, Any] = {}
    attributes: dict[str, Any] = {"encoder": str(uns["encoder"])} if "encoder" in uns else {}
    if "width" in spec:
        grid["patch_size"] = int(spec["width"])
        grid["patch_size_level0"] = round(float(spec["width"]) * float(spec.get("base_downsample", 1)))
    if spec.get("mpp"):
        attributes["target_mpp"] = float(spec["mpp"])
    if properties.get("mpp"):
        mpp = float(properties["mpp"])
        attributes |= {"mpp_x": mpp, "mpp_y": mpp, "mpp_source": "anndata"}
    if "shape" in properties:
        grid["level0_height"], grid["level0_width"] = (int(edge) for edge in properties["shape"])
    return grid, attributes


def _description(slide: PortableFeatures) -> dict[str, Any]:
    """The inverse of `_sizes`."""
    grid, attributes = slide.grid, slide.attributes
    properties: dict[str, Any] = {}
    if "mpp_x" in attributes:
        properties["mpp"] = float(attributes["mpp_x"])
    if grid.get("level0_width"):
        properties["shape"] = [int(grid["level0_height"]), int(grid["level0_width"])]
    spec: dict[str, Any] = {}
    if grid.get("patch_size"):
        spec["width"] = spec["height"] = int(grid["patch_size"])
        spec["base_downsample"] = float(grid.get("patch_size_level0", grid["patch_size"])) / spec["width"]
    if "target_mpp" in attributes:
        spec["mpp"] = float(attributes["target_mpp"])
    parts = {"slide_properties": properties, "tile_spec": spec}
    encoder = str(attributes.get("encoder", "unknown"))
    return {
        **{name: part for name, part in parts.items() if part},
        **({"encoder": encoder} if encoder != "unknown" else {}),
    }


def _library() -> Any:
    try:
        import anndata
    except ImportError:
        hint = "pip install 'mcti[anndata]'"
        raise OperationalError("anndata is not installed", "features as AnnData", hint) from None
    return anndata
