"""Feature sets of other tools, in and out: TRIDENT, CLAM, STAMP and plain `.pt` files.

What a format cannot hold is not invented: `.pt` has no coordinates, so none are made up; STAMP's are micrometres, so
level-0 pixels need the slide's mpp. Tensors are read with weights_only=True only.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcti import storage
from mcti.errors import DataError, UsageError, did_you_mean
from mcti.slides import features, hdf5
from mcti.slides.features import Block

FORMATS = ("trident", "clam", "stamp", "pt")
_GRID = (
    *("name", "patch_size", "patch_size_level0", "level0_magnification", "target_magnification", "overlap"),
    *("level0_width", "level0_height"),
)

_CLAM = ("patch_size", "patch_level", "downsample", "downsampled_level_dim", "level_dim", "name")
_STAMP = ("extractor", "feat_type", "code_hash", "stamp_version", "tile_size_um", "tile_size_px")


@dataclass(frozen=True)
class Bag:
    """The features of one slide: numbers (N, D), coords (N, 2) level-0 px or none, and what else is known."""

    slide_id: str
    numbers: NDArray[Any]
    coords: NDArray[np.int64] | None
    grid: dict[str, Any] = field(default_factory=dict)
    root: dict[str, Any] = field(default_factory=dict)


def check_format(name: str) -> None:
    """Raise a UsageError for a format nobody knows."""
    if name not in FORMATS:
        raise UsageError(f"unknown format {name!r}", "--format", did_you_mean(name, FORMATS))


def read_set(folder: Path, form: str, mpp: float | None = None) -> Iterator[Bag]:
    """The bags of a feature set in `form`, by slide name; `mpp` (µm/px of level 0) is needed for STAMP.

    Raises
        DataError: an empty folder, a file that is none of that format; UsageError: STAMP without mpp.
    """
    check_format(form)
    where, suffix = {"clam": (folder / "h5_files", ".h5"), "pt": (folder, ".pt")}.get(form, (folder, ".h5"))
    files = sorted(where.glob(f"*{suffix}")) if where.is_dir() else []
    if not files:
        raise DataError(f"no {suffix} files of {form} features", str(where), "check the folder and --format")
    for file in files:
        yield _readers(form, mpp)(file)


def write_bag(bag: Bag, folder: Path, form: str) -> None:
    """One bag into `folder` as `form` has it; each file whole or absent.

    Raises
        DataError: the bag lacks what the format must have (coordinates, mpp).
    """
    check_format(form)
    {"trident": _to_trident, "clam": _to_clam, "stamp": _to_stamp, "pt": _to_pt}[form](bag, folder)


def from_store(path: Path) -> Bag:
    """A bag of our own store."""
    numbers, coords = features.read(path)
    return replace(head(path), numbers=numbers, coords=coords if len(coords) == len(numbers) else None)


def head(path: Path) -> Bag:
    """What a file of our own store says of its slide and grid, without the numbers."""
    import h5py

    with h5py.File(path, "r") as file:
        root, grid = _plain(file.attrs), _plain(file["coords"].attrs) if "coords" in file else {}
    return Bag(path.name.removesuffix(".h5"), np.empty((0, 0)), None, grid, root)


def to_store(bag: Bag, out: Path, form: str) -> None:
    """A bag of another tool as a file of our store; the root says which format it came from."""
    kept = None if bag.coords is None else np.lexsort((bag.coords[:, 0], bag.coords[:, 1]))
    numbers = bag.numbers if kept is None else bag.numbers[kept]
    coords = np.zeros((0, 2), np.int64) if bag.coords is None or kept is None else bag.coords[kept]
    dtype = "float16" if numbers.dtype == np.float16 else "float32"
    nothing = np.zeros(0, np.float32)
    root = {
        "schema_version": features.SCHEMA_VERSION,
        "key": features.IMPORTED + form,
        "reader": form,
        "encoder": "unknown",
        "mpp_x": float("nan"),
        "mpp_source": "",
        **bag.root,
    }
    grid = {"level0_width": 0, "level0_height": 0, "name": bag.slide_id, **bag.grid}
    block = Block(numbers, coords, nothing, np.zeros((0, 2), np.int64), 0)
    features.write(out, [block], numbers.shape[1], dtype, root, grid)


def _readers(form: str, mpp: float | None) -> Callable[[Path], Bag]:
    if form == "stamp":
        if mpp is None:
            hint = "give the slides' mpp (µm/px of level 0): --mpp 0.25"
            raise UsageError("STAMP keeps coordinates in µm", "--format stamp", hint)
        return lambda file: _from_stamp(file, mpp)
    return {"trident": _from_trident, "clam": _from_clam, "pt": _from_pt}[form]


def _from_trident(file: Path) -> Bag:
    """`features` (N, D) or (1, N, D), `coords` (N, 2) with attributes."""
    with _opened(file) as h5:
        numbers, coords = h5["features"][:], h5["coords"][:]
        grid, root = _plain(h5["coords"].attrs), _plain(h5.attrs)
    return _bag(file, numbers, coords.astype(np.int64), grid, root)


def _from_clam(file: Path) -> Bag:
    """TRIDENT's two tables; sizes count pixels of patch_level, `downsample` of them one at level 0."""
    bag = _from_trident(file)
    grid = dict(bag.grid)
    scale = [float(v) for v in np.ravel(grid.get("downsample", (1.0, 1.0)))]
    if "patch_size" in grid:
        grid["patch_size_level0"] = round(int(grid["patch_size"]) * scale[0])
    if "level_dim" in grid and len(np.ravel(grid["level_dim"])) == 2:
        sides = zip(("level0_width", "level0_height"), np.ravel(grid["level_dim"]), (scale[0], scale[-1]), strict=True)
        grid |= {name: round(int(side) * by) for name, side, by in sides}
    return replace(bag, grid=grid)


def _from_stamp(file: Path, mpp: float) -> Bag:
    """`feats` (N, D), `coords` (N, 2) in µm, attribute unit."""
    with _opened(file) as h5:
        root = _plain(h5.attrs)
        if str(root.get("unit", "")) != "um":
            raise DataError(f"coordinates in {root.get('unit')!r}, not um", str(file), "extract again with STAMP 2")
        numbers, coords = h5["feats"][:], h5["coords"][:].astype(np.float64)
    grid: dict[str, Any] = {}
    if "tile_size_um" in root:
        grid = {"patch_size_level0": round(float(root["tile_size_um"]) / mpp)}
    if root.get("tile_size_px"):
        grid["patch_size"] = int(root["tile_size_px"])
    return _bag(file, numbers, np.rint(coords / mpp).astype(np.int64), grid, {**root, "mpp_x": mpp, "mpp_y": mpp})


def _from_pt(file: Path) -> Bag:
    import torch

    try:
        numbers = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for what is no tensor
        what = f"not a tensor file ({type(error).__name__})"
        raise DataError(what, str(file), "save the bag with torch.save(tensor, path)") from error
    if not isinstance(numbers, torch.Tensor):
        raise DataError(f"a {type(numbers).__name__}, not a tensor", str(file), "save the bag as one (N, D) tensor")
    if numbers.layout is not torch.strided:
        raise DataError("a sparse tensor", str(file), "save the bag as one dense (N, D) tensor")
    numbers = numbers.detach().float() if numbers.dtype is torch.bfloat16 else numbers.detach()  # numpy has no bfloat16
    return _bag(file, numbers.numpy() if numbers.dtype.is_floating_point else None, None, {}, {})


def _bag(file: Path, numbers: Any, coords: NDArray[np.int64] | None, grid: dict[str, Any], root: dict[str, Any]) -> Bag:
    numbers = np.zeros(0) if numbers is None else numbers[0] if numbers.ndim == 3 and len(numbers) == 1 else numbers
    if numbers.ndim != 2 or not numbers.size:
        raise DataError(f"features of shape {numbers.shape}, not (N, D)", str(file), "extract this slide again")
    if coords is not None and coords.shape != (len(numbers), 2):
        raise DataError(
            f"{len(numbers)} rows of features, coords of shape {coords.shape}", str(file), "extract it again"
        )
    if not np.isfinite(numbers).all():
        raise DataError("features that are not finite", str(file), "extract this slide again")
    return Bag(file.name.removesuffix(file.suffix), numbers, coords, grid, root)


class _opened:  # noqa: N801 (used as a function)
    """An HDF5 file, with our error for a broken one or a missing table."""

    def __init__(self, file: Path) -> None:
        self._path = file

    def __enter__(self) -> Any:
        import h5py

        try:
            self._file = h5py.File(self._path, "r")
        except OSError as error:
            raise DataError("not an HDF5 file", str(self._path), "copy it again") from error
        return self._file

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._file.close()
        if isinstance(error, KeyError | OSError):
            raise DataError(f"not of this format ({error})", str(self._path), "check --format") from error


def _to_trident(bag: Bag, folder: Path) -> None:
    coords = _coords(bag, "TRIDENT")
    grid = {name: bag.grid[name] for name in _GRID if name in bag.grid}
    _write_h5(folder / f"{bag.slide_id}.h5", {"features": bag.numbers, "coords": coords}, {"coords": grid}, {})


def _to_clam(bag: Bag, folder: Path) -> None:
    """CLAM's own attributes where the features came from it; else those of level 0, where a tile is its footprint."""
    coords = _coords(bag, "CLAM")
    grid: dict[str, Any] = {"patch_level": 0, "downsample": np.array([1.0, 1.0]), "name": bag.slide_id}
    if "patch_level" in bag.grid:
        grid |= {name: bag.grid[name] for name in _CLAM if name in bag.grid}
    elif "patch_size_level0" in bag.grid:
        grid["patch_size"] = bag.grid["patch_size_level0"]
    if "level_dim" not in grid and bag.grid.get("level0_width"):
        grid["level_dim"] = np.array([bag.grid["level0_width"], bag.grid["level0_height"]])
    tables = {"features": bag.numbers, "coords": coords}
    _write_h5(folder / "h5_files" / f"{bag.slide_id}.h5", tables, {"coords": grid}, {})
    _to_pt(bag, folder / "pt_files")


def _to_stamp(bag: Bag, folder: Path) -> None:
    mpp = float(bag.root.get("mpp_x", float("nan")))
    if not np.isfinite(mpp):
        raise DataError("STAMP wants µm, and this slide's mpp is unknown", bag.slide_id, "import it with --mpp")
    coords = (_coords(bag, "STAMP") * mpp).astype(np.float32)
    root: dict[str, Any] = {"unit": "um", "extractor": bag.root.get("encoder", "unknown"), "feat_type": "tile"}
    root |= {name: bag.root[name] for name in _STAMP if name in bag.root}
    if "patch_size_level0" in bag.grid and "tile_size_um" not in root:
        root["tile_size_um"] = float(bag.grid["patch_size_level0"]) * mpp
        root["tile_size_px"] = int(bag.grid.get("patch_size", 0))
    _write_h5(folder / f"{bag.slide_id}.h5", {"feats": bag.numbers.astype(np.float16), "coords": coords}, {}, root)


def _to_pt(bag: Bag, folder: Path) -> None:
    import torch

    # A stream: given a path, torch writes the draft's name into the archive.
    with storage.replacing(folder / f"{bag.slide_id}.pt") as draft, draft.open("wb") as stream:
        torch.save(torch.from_numpy(np.ascontiguousarray(bag.numbers)), stream)


def _coords(bag: Bag, name: str) -> NDArray[np.int64]:
    if bag.coords is None:
        raise DataError(f"{name} wants coordinates, and these features have none", bag.slide_id, "take --format pt")
    return bag.coords


def _write_h5(
    out: Path, tables: dict[str, NDArray[Any]], attributes: dict[str, dict[str, Any]], root: dict[str, Any]
) -> None:
    with storage.replacing(out) as draft, hdf5.create(draft) as (file, _):
        for name, values in tables.items():
            chunks = (min(256, len(values)), *values.shape[1:])
            table = file.create_dataset(name, data=values, chunks=chunks, track_times=False)
            for key, value in attributes.get(name, {}).items():
                table.attrs[key] = value
        for key, value in root.items():
            file.attrs[key] = value


def _plain(attributes: Any) -> dict[str, Any]:
    """Attributes as Python values; paths of the other machine stay behind."""
    return {
        str(name): value.item() if isinstance(value, np.generic) else value
        for name, value in attributes.items()
        if name not in ("save_path", "savetodir")
    }
