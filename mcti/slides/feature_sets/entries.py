"""The entries of a feature set: one slide or patient each, read one at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcti.errors import DataError
from mcti.slides.portable import PortableFeatures

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
