"""A folder of ready-made features: its files by slide, their versions, and how they cover a table of slides."""

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from mcti import redaction, storage
from mcti.errors import DataError
from mcti.storage import Location

SUFFIXES = (".h5", ".hdf5", ".npy", ".npz", ".pt", ".pth", ".parquet")
"""Endings of files with features; logs and settings of other tools in the same folder are ignored."""
SHOWN = 3
"""Names that a message lists; it states the number of the others."""


@dataclass(frozen=True)
class Coverage:
    """How a folder of features and a table of slides match; all names sorted.

    without_file    slides of the table without a file
    without_slide   names of files that belong to no slide of the table
    """

    slides: int
    without_file: tuple[str, ...]
    without_slide: tuple[str, ...]

    def __str__(self) -> str:
        covered = f"{self.slides - len(self.without_file)} of {self.slides} slides have ready-made features"
        missing = f"; {len(self.without_file)} have none{_first(self.without_file)}"
        unused = f"; {len(self.without_slide)} files belong to no slide of the table{_first(self.without_slide)}"
        return covered + (missing if self.without_file else "") + (unused if self.without_slide else "")


@dataclass(frozen=True)
class FeatureSource:
    """The files of features below a folder or an address.

    versions    by name below `location`, what identifies the content of a file on S3 (MD5 or etag); empty text for a
                local file, whose MD5 is computed on demand
    """

    location: str
    versions: Mapping[str, str]

    @classmethod
    def open(cls, location: Location) -> "FeatureSource":
        """List the files; none is read.

        Raises DataError when there is no such folder, or no file of features in it.
        """
        if storage.is_s3(location):
            versions = storage.versions_below(location)
        else:
            versions = {path.relative_to(location).as_posix(): "" for path in _files(Path(location))}
        names = {name: version for name, version in sorted(versions.items()) if name.lower().endswith(SUFFIXES)}
        if not names:
            what = "no file of features" if storage.exists(location) else "no such folder"
            raise DataError(what, str(location), f"correct extract.import.path; endings: {', '.join(SUFFIXES)}")
        source = cls(os.fspath(location).rstrip("/"), names)
        redaction.register_ids(source.names)
        return source

    @cached_property
    def names(self) -> Mapping[str, tuple[str, ...]]:
        """The files of each slide: {slide_id: names}. A file belongs to the slide after which it is named."""
        by_slide: dict[str, list[str]] = {}
        for name in self.versions:
            by_slide.setdefault(PurePosixPath(name).stem, []).append(name)
        return {slide: tuple(names) for slide, names in by_slide.items()}

    def version(self, name: str) -> str:
        """MD5 or etag of a file. The etag of an object that was uploaded in one part is its MD5."""
        return self.versions[name] or storage.md5(storage.join(self.location, name))

    def coverage(self, slide_ids: Iterable[str]) -> Coverage:
        """How the files match the slides of a table.

        Raises DataError when no slide has a file.
        """
        wanted = set(slide_ids)
        missing, unused = sorted(wanted - set(self.names)), sorted(set(self.names) - wanted)
        if len(missing) == len(wanted):
            what = f"no file is named after a slide of the table (file {unused[0]!r}, slide {missing[0]!r})"
            raise DataError(what, self.location, "name each file <slide_id> with its ending, or correct the slide ids")
        return Coverage(len(wanted), tuple(missing), tuple(unused))

    def stage(self, slide_id: str, folder: Path) -> None:
        """Place the files of one slide below `folder`, under the names that they have in the source.

        Raises OperationalError when S3 does not answer, or the disk is full.
        """
        for name in self.names[slide_id]:
            target, address = folder / name, storage.join(self.location, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not storage.is_s3(address):
                target.symlink_to(Path(address).resolve())
                continue
            with storage.local_copy(address, folder) as copy:  # the copy of a pinned file has the name of its MD5
                shutil.move(copy, target)


def _files(folder: Path) -> list[Path]:
    with storage.translating_os_errors(folder):
        return [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]


def _first(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f" ({', '.join(names[:SHOWN])}{more})"
