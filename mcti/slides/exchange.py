"""Feature sets of other tools: import and export of TRIDENT, CLAM, STAMP and plain `.pt` files.

Values that a format does not store are not invented: `.pt` has no coordinates; STAMP stores micrometres, so level-0
pixels need the slide's mpp. Tensors are read with weights_only=True, which executes no code.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcti import storage
from mcti.errors import DataError, UsageError, did_you_mean
from mcti.slides import features, hdf5
from mcti.slides.features import TileBlock
from mcti.storage import Location

FORMATS = ("trident", "clam", "stamp", "pt")
_GRID = (
    *("name", "patch_size", "patch_size_level0", "level0_magnification", "target_magnification", "overlap"),
    *("level0_width", "level0_height"),
)
_CLAM = ("patch_size", "patch_level", "downsample", "downsampled_level_dim", "level_dim", "name")
_STAMP = ("extractor", "feat_type", "code_hash", "stamp_version", "tile_size_um", "tile_size_px")
_NOT_COPIED = ("save_path", "savetodir")  # paths of the machine that wrote the file


@dataclass(frozen=True)
class PortableFeatures:
    """One slide in a form that all formats share: features (N, D); coords (N, 2) in level-0 pixels, None: unknown.

    grid        attributes of the coordinates, such as patch_size_level0
    attributes  attributes of the file, such as mpp_x and encoder
    """

    slide_id: str
    features: NDArray[Any]
    coords: NDArray[np.int64] | None
    grid: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)


def check_format(format_name: str) -> None:
    """Refuse an unknown format.

    Raises UsageError.
    """
    if format_name not in FORMATS:
        raise UsageError(f"unknown format {format_name!r}", "--format", did_you_mean(format_name, FORMATS))


def read_set(folder: Path, format_name: str, mpp: float | None = None) -> Iterator[PortableFeatures]:
    """The slides of a feature set, sorted by file name; `mpp` (µm/px of level 0) is needed for STAMP.

    Raises DataError when the folder has no files of the format, or a file is broken.
    Raises UsageError for an unknown format, and for STAMP without mpp.
    """
    check_format(format_name)
    folder = folder / "h5_files" if format_name == "clam" else folder
    suffix = ".pt" if format_name == "pt" else ".h5"
    files = sorted(folder.glob(f"*{suffix}")) if folder.is_dir() else []
    if not files:
        raise DataError(f"no {suffix} files of {format_name} features", str(folder), "check the folder and --format")
    read = _reader(format_name, mpp)
    for file in files:
        yield read(file)


def write_slide(slide: PortableFeatures, folder: Path, format_name: str) -> None:
    """Write one slide into `folder` in a format; each file complete or absent.

    Raises DataError when the slide lacks what the format needs (coordinates, mpp).
    Raises UsageError for an unknown format.
    """
    check_format(format_name)
    {"trident": _to_trident, "clam": _to_clam, "stamp": _to_stamp, "pt": _to_pt}[format_name](slide, folder)


def from_store(location: Location) -> PortableFeatures:
    """A slide of a feature store, from its local or S3 feature file.

    Raises DataError when the file is missing or broken.
    """
    with features.open_file(location) as file:
        return PortableFeatures(
            _stem(location), file.features(), file.coords(), _copied(file.grid), _copied(file.attributes)
        )


def read_header(location: Location) -> PortableFeatures:
    """A slide of a feature store without its features and coordinates.

    Raises DataError when the file is missing or broken.
    """
    with features.open_file(location) as file:
        return PortableFeatures(_stem(location), np.empty((0, 0)), None, _copied(file.grid), _copied(file.attributes))


def to_store(slide: PortableFeatures, out: Path, format_name: str) -> None:
    """Write a slide of another tool as a feature file; its key states the format that it was imported from.

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
        "mpp_x": float("nan"),
        "mpp_source": "",
        **slide.attributes,
    }
    grid = {"level0_width": 0, "level0_height": 0, "name": slide.slide_id, **slide.grid}
    block = TileBlock(values, coords, np.zeros(0, np.float32), np.zeros((0, 2), np.int64), 0)
    features.write(out, [block], values.shape[1], dtype, root, grid)


def _reader(format_name: str, mpp: float | None) -> Callable[[Path], PortableFeatures]:
    if format_name == "stamp":
        if mpp is None:
            hint = "add the slides' mpp (µm/px of level 0), e.g. --mpp 0.25"
            raise UsageError("STAMP stores coordinates in µm", "--format stamp", hint)
        return lambda file: _from_stamp(file, mpp)
    return {"trident": _from_trident, "clam": _from_clam, "pt": _from_pt}[format_name]


def _from_trident(file: Path) -> PortableFeatures:
    """`features` (N, D) or (1, N, D), `coords` (N, 2) with attributes."""
    with hdf5.open_foreign(file) as h5:
        values, coords = h5["features"][:], h5["coords"][:]
        grid, attributes = (_copied(hdf5.plain_attributes(owner)) for owner in (h5["coords"], h5))
    return _checked(file, values, coords.astype(np.int64), grid, attributes)


def _from_clam(file: Path) -> PortableFeatures:
    """TRIDENT's two tables; sizes count pixels of patch_level, and `downsample` is their size in level-0 pixels."""
    slide = _from_trident(file)
    grid = dict(slide.grid)
    scale = [float(factor) for factor in np.ravel(grid.get("downsample", (1.0, 1.0)))]
    if "patch_size" in grid:
        grid["patch_size_level0"] = round(int(grid["patch_size"]) * scale[0])
    if "level_dim" in grid and len(np.ravel(grid["level_dim"])) == 2:
        sides = zip(("level0_width", "level0_height"), np.ravel(grid["level_dim"]), (scale[0], scale[-1]), strict=True)
        grid |= {name: round(int(side) * factor) for name, side, factor in sides}
    return replace(slide, grid=grid)


def _from_stamp(file: Path, mpp: float) -> PortableFeatures:
    """`feats` (N, D), `coords` (N, 2) in µm, attribute unit."""
    with hdf5.open_foreign(file) as h5:
        attributes = _copied(hdf5.plain_attributes(h5))
        if str(attributes.get("unit", "")) != "um":
            what = f"the unit of the coordinates is {attributes.get('unit')!r}, not 'um'"
            raise DataError(what, str(file), "extract again with STAMP 2")
        values, coords = h5["feats"][:], h5["coords"][:].astype(np.float64)
    grid: dict[str, Any] = {}
    if "tile_size_um" in attributes:
        grid = {"patch_size_level0": round(float(attributes["tile_size_um"]) / mpp)}
    if attributes.get("tile_size_px"):
        grid["patch_size"] = int(attributes["tile_size_px"])
    attributes |= {"mpp_x": mpp, "mpp_y": mpp}
    return _checked(file, values, np.rint(coords / mpp).astype(np.int64), grid, attributes)


def _from_pt(file: Path) -> PortableFeatures:
    import torch

    try:
        tensor = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises several exception classes for a file that holds no tensor
        what = f"not a tensor file ({type(error).__name__})"
        raise DataError(what, str(file), "save the features with torch.save(tensor, path)") from error
    if not isinstance(tensor, torch.Tensor):
        what = f"a {type(tensor).__name__}, not a tensor"
        raise DataError(what, str(file), "save the features as one (N, D) tensor")
    if tensor.layout is not torch.strided:
        raise DataError("a sparse tensor", str(file), "save the features as one dense (N, D) tensor")
    tensor = tensor.detach().float() if tensor.dtype is torch.bfloat16 else tensor.detach()  # numpy has no bfloat16
    return _checked(file, tensor.numpy() if tensor.dtype.is_floating_point else None, None, {}, {})


def _checked(
    file: Path, values: Any, coords: NDArray[np.int64] | None, grid: dict[str, Any], attributes: dict[str, Any]
) -> PortableFeatures:
    """The slide, after checks of shapes and values."""
    values = np.zeros(0) if values is None else values[0] if values.ndim == 3 and len(values) == 1 else values
    if values.ndim != 2 or not values.size:
        raise DataError(f"features of shape {values.shape}, not (N, D)", str(file), "extract this slide again")
    if coords is not None and coords.shape != (len(values), 2):
        what = f"{len(values)} rows of features, coords of shape {coords.shape}"
        raise DataError(what, str(file), "extract this slide again")
    if not np.isfinite(values).all():
        raise DataError("features that are not finite", str(file), "extract this slide again")
    return PortableFeatures(_stem(file), values, coords, grid, attributes)


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
        root["tile_size_px"] = int(slide.grid.get("patch_size", 0))
    tables: dict[str, NDArray[Any]] = {"feats": slide.features.astype(np.float16), "coords": coords}
    hdf5.write_tables(folder / f"{slide.slide_id}.h5", tables, {}, root)


def _to_pt(slide: PortableFeatures, folder: Path) -> None:
    import torch

    # A stream: with a path, torch writes the name of the temporary file into the archive.
    with storage.replacing(folder / f"{slide.slide_id}.pt") as draft, draft.open("wb") as stream:
        torch.save(torch.from_numpy(np.ascontiguousarray(slide.features)), stream)


def _coords(slide: PortableFeatures, format_name: str) -> NDArray[np.int64]:
    if slide.coords is None:
        what = f"{format_name} needs coordinates, but these features have none"
        raise DataError(what, slide.slide_id, "export with --format pt")
    return slide.coords


def _stem(location: Location) -> str:
    return PurePosixPath(location).stem


def _copied(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes without paths of the machine that wrote the file."""
    return {name: value for name, value in attributes.items() if name not in _NOT_COPIED}
