"""TRIDENT 0.3: `features_<encoder>/<slide>.h5` (patches) and `slide_features_<encoder>/<slide>.h5` (one vector).

features    (N, D) of patches, or (D,) of the slide; attribute `encoder` in patch files
coords      (N, 2) level-0 pixels of the patches, with the attributes of the grid; also in slide files
`.pt` files (`--saveas pt`) hold the features alone.
"""

from pathlib import Path
from typing import Any

from mcti.slides import hdf5
from mcti.slides.feature_sets import entries, plain
from mcti.slides.feature_sets.entries import SetEntry
from mcti.slides.portable import SLIDE, PortableFeatures, from_arrays

_SLIDE_FOLDER, _PATCH_FOLDER = "slide_features_", "features_"


def find(source: Path) -> list[SetEntry]:
    """The files of a folder of features, or of a job folder with one folder of features.

    Raises DataError when there is no file, or the job folder has several folders of features.
    """
    folder = entries.only_folder(source, (f"{_SLIDE_FOLDER}*", f"{_PATCH_FOLDER}*"), (".h5", ".pt"))
    if files := entries.files_below(folder, ".h5"):
        return [entries.of_file(file, read_file, folder.name) for file in files]
    if files := entries.files_below(folder, ".pt"):
        return [entries.of_file(file, _read_tensor, folder.name) for file in files]
    raise entries.missing(source, ".h5", "trident")


def _read_tensor(file: Path, folder: str) -> PortableFeatures:
    slide = plain.read_file(file)
    return from_arrays(
        slide.slide_id, str(file), slide.features, attributes=_encoder(None, folder), level=_level(folder)
    )


def read_file(file: Path, folder: str = "") -> PortableFeatures:
    """One file; `folder` is the name of the folder of the set, which states encoder and level.

    Raises DataError when the file is broken or has no features.
    """
    with hdf5.open_foreign(file) as h5:
        values, coords = h5["features"][()], h5["coords"][()]
        encoder = hdf5.plain_attributes(h5["features"]).get("encoder")
        grid, root = (hdf5.plain_attributes(owner) for owner in (h5["coords"], h5))
    grid = entries.without_paths(grid)
    attributes = root | _encoder(encoder or root.get("encoder"), folder)
    level = _level(folder) or (SLIDE if len(values) == 1 and values.ndim == 2 and len(coords) != 1 else "")
    if level == SLIDE or values.ndim == 1:
        return from_arrays(file.stem, str(file), values, None, None, attributes, level)
    return from_arrays(file.stem, str(file), values, coords, grid, attributes | _resolution(grid))


def _encoder(stated: Any, folder: str) -> dict[str, Any]:
    """The encoder of the file, else that of the name of the folder. TRIDENT writes the text None where it has none."""
    name = next((folder.removeprefix(p) for p in (_SLIDE_FOLDER, _PATCH_FOLDER) if folder.startswith(p)), "")
    if stated not in (None, "", "None"):
        name = str(stated)
    return {"encoder": name} if name else {}


def _level(folder: str) -> str:
    return SLIDE if folder.startswith(_SLIDE_FOLDER) else ""


def _resolution(grid: dict[str, Any]) -> dict[str, float]:
    """TRIDENT's magnification m is 10 / m µm/px."""
    target = grid.get("target_magnification")
    return {"target_mpp": 10.0 / float(target)} if target else {}
