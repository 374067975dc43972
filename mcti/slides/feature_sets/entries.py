"""The entries of a feature set: one slide or patient each, read one at a time."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mcti.errors import DataError
from mcti.slides.portable import PortableFeatures, from_arrays

_PATHS = ("save_path", "savetodir")
"""Attributes with paths of the machine that wrote the file."""


@dataclass(frozen=True)
class SetEntry:
    """One slide or patient of a feature set.

    name        its id in the set: the name of its file without the suffix, or its key in a table
    where       the file, and the key in it
    read        reads the features; the argument is the slide's mpp (µm/px of level 0), None: unknown
    patient_id  the patient, where the set itself states it
    """

    name: str
    where: str
    read: Callable[[float | None], PortableFeatures]
    patient_id: str = ""


def of_file(file: Path, read: Callable[..., PortableFeatures], *arguments: object) -> SetEntry:
    """The entry of the file of one slide, whose coordinates need no mpp: `read(file, *arguments)` reads it."""
    return SetEntry(file.stem, str(file), lambda _mpp: read(file, *arguments))


def of_member(
    file: Path,
    name: str,
    values: NDArray[Any],
    level: str,
    *,
    attributes: dict[str, Any] | None = None,
    patient_id: str = "",
) -> SetEntry:
    """The entry of one slide or patient in a file of several: values (N, D) or (D,), already in memory."""
    where = f"{file}, {name}"
    return SetEntry(
        name, where, lambda _mpp: from_arrays(name, where, values, attributes=attributes, level=level), patient_id
    )


def by_name(entries: Iterable[SetEntry]) -> dict[str, SetEntry]:
    """The entries by their names.

    Raises DataError when two entries have one name.
    """
    named: dict[str, SetEntry] = {}
    for entry in entries:
        if entry.name in named:
            where = f"{named[entry.name].where}, {entry.where}"
            raise DataError(f"2 sets of features of {entry.name}", where, "keep one, or give the folder of one set")
        named[entry.name] = entry
    return named


def without_paths(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a file without paths of the machine that wrote it."""
    return {name: value for name, value in attributes.items() if name not in _PATHS}


def files_below(folder: Path, *suffixes: str) -> list[Path]:
    """The files with one of these suffixes in a folder and its subfolders, sorted; hidden files are left out."""
    if not folder.is_dir():
        return []
    files = (path for suffix in suffixes for path in folder.rglob(f"*{suffix}"))
    visible = (path for path in files if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    return sorted(path for path in visible if path.is_file())


def only_folder(folder: Path, patterns: tuple[str, ...], suffixes: tuple[str, ...]) -> Path:
    """The one folder below `folder` with a name of one of the patterns and files in it; `folder` where there is none.

    Raises DataError when there are several: each is a set of its own.
    """
    candidates = [path for pattern in patterns for path in sorted(folder.rglob(pattern)) if path.is_dir()]
    candidates = [path for path in candidates if files_below(path, *suffixes)]
    if len(candidates) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in candidates)
        raise DataError(f"{len(candidates)} sets of features: {names}", str(folder), "give the folder of one set")
    return candidates[0] if candidates else folder


def missing(folder: Path, suffixes: str, format_name: str) -> DataError:
    """The error of a folder without files of the format."""
    return DataError(f"no {suffixes} files of {format_name} features", str(folder), "check the folder and --format")
