"""Arrays in files of other tools: `.pt`, `.npy`, `.npz` and HDF5. No pickle: no file can execute code.

Each function returns named arrays. A file that holds a single array has the name `VALUES`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mcti.errors import DataError
from mcti.slides import hdf5

VALUES = "features"
FEATURE_NAMES = ("features", "feats", "embeddings", "embedding", "feature", "slide_embedding", "patch_embeddings")
COORDINATE_NAMES = ("coords", "coordinates", "coord")
ID_NAMES = ("slide_id", "slide_ids", "patient_id", "patient_ids", "filenames", "filename", "ids", "names", "slides")
NamedArrays = dict[str, NDArray[Any]]


def read_arrays(file: Path) -> NamedArrays:
    """The arrays of a `.pt`, `.npy`, `.npz` or HDF5 file by name.

    Raises DataError when the file is broken, or holds objects that only pickle can read.
    """
    if file.suffix.lower() in (".pkl", ".pickle"):
        hint = "convert it to .npz or Parquet where you trust its origin"
        raise DataError("a pickle file, which executes code when it is read", str(file), hint)
    readers = {".pt": _read_torch, ".pth": _read_torch, ".npy": _read_numpy, ".npz": _read_numpy}
    return readers.get(file.suffix.lower(), _read_hdf5)(file)


def first(arrays: Mapping[str, NDArray[Any]], names: Sequence[str]) -> NDArray[Any] | None:
    """The array (of any shape) with the first of these names that exists."""
    return next((arrays[name] for name in names if name in arrays), None)


def texts(values: NDArray[Any]) -> list[str]:
    """An array of ids (n,) as texts."""
    return [item.decode() if isinstance(item, bytes) else str(item) for item in np.ravel(values).tolist()]


def _read_torch(file: Path) -> NamedArrays:
    import torch

    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises several exception classes for a file that holds no tensor
        what = f"not a tensor file ({type(error).__name__})"
        raise DataError(what, str(file), "save the features with torch.save(tensor, path)") from error
    if isinstance(content, torch.Tensor):
        return {VALUES: _tensor(content, file)}
    arrays = {}
    for name, value in content.items() if isinstance(content, Mapping) else ():
        if isinstance(value, torch.Tensor):
            arrays[str(name)] = _tensor(value, file)
        elif isinstance(value, list | tuple) and value and all(isinstance(item, str) for item in value):
            arrays[str(name)] = np.array(value)
        elif isinstance(value, Mapping):  # {slide: {"features": tensor}}
            inner = {key: _tensor(item, file) for key, item in value.items() if isinstance(item, torch.Tensor)}
            if (values := first(inner, FEATURE_NAMES)) is not None:
                arrays[str(name)] = values
    if not arrays:
        what = f"a {type(content).__name__} without tensors"
        raise DataError(what, str(file), "save the features as one (N, D) tensor")
    return arrays


def _tensor(tensor: Any, file: Path) -> NDArray[Any]:
    import torch

    if tensor.layout is not torch.strided:
        raise DataError("a sparse tensor", str(file), "save the features as one dense (N, D) tensor")
    tensor = tensor.detach().float() if tensor.dtype is torch.bfloat16 else tensor.detach()  # numpy has no bfloat16
    array: NDArray[Any] = tensor.numpy()
    return array


def _read_numpy(file: Path) -> NamedArrays:
    try:
        content = np.load(file, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {VALUES: content}
        with content:
            return {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        what = f"not a file of numeric arrays ({type(error).__name__}: {error})"
        raise DataError(what, str(file), "save the features with numpy.save, without pickle") from error


def _read_hdf5(file: Path) -> NamedArrays:
    import h5py

    with hdf5.open_foreign(file) as h5:
        datasets = {name: item for name, item in h5.items() if isinstance(item, h5py.Dataset)}
        for name, group in h5.items():  # {slide: {"features": table}}
            if isinstance(group, h5py.Group):
                inner = next((group[key] for key in FEATURE_NAMES if key in group), None)
                datasets |= {} if inner is None else {name: inner}
        return {name: np.asarray(item[()]) for name, item in datasets.items()}
