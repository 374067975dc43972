"""A set of ready-made features: its files and their versions, and the slides of a table that it covers."""

import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from mcti import redaction, storage
from mcti.errors import DataError
from mcti.params import ImportParams
from mcti.slides import exchange
from mcti.slides.feature_sets import entries, names
from mcti.slides.feature_sets.entries import SetEntry
from mcti.slides.feature_sets.names import Matches
from mcti.slides.manifest import ListedSlide
from mcti.storage import Location

DATA_SUFFIXES = (".h5", ".hdf5", ".npy", ".npz", ".pt", ".pth", ".parquet", ".csv")
SUFFIXES = (*DATA_SUFFIXES, ".json", ".txt")
"""Endings of files with features and of files next to them that name or describe slides; others are ignored."""
SHOWN = 3
"""Names that a message lists; it states the number of the others."""


def list_versions(location: Location) -> dict[str, str]:
    """The files of a set: {name below `location`: MD5 or etag}, sorted; empty text for a local file; none is read.

    A set of one file has its own name. The etag of an object that was uploaded in one part is its MD5.
    Raises DataError when there is no such file or folder, or no file of features in it.
    """
    if not storage.exists(location):
        raise DataError("no such file or folder", str(location), "correct extract.import.path")
    if storage.is_s3(location):
        versions = storage.versions_below(location)
        versions = {name or os.fspath(location).rpartition("/")[2]: version for name, version in versions.items()}
    else:
        versions = dict.fromkeys(_local_names(Path(location)), "")
    known = {name: version for name, version in sorted(versions.items()) if name.lower().endswith(SUFFIXES)}
    if not any(name.lower().endswith(DATA_SUFFIXES) for name in known):
        hint = f"correct extract.import.path; endings: {', '.join(DATA_SUFFIXES)}"
        raise DataError("no file of features", str(location), hint)
    return known


def file_version(location: Location, name: str, listed: str) -> str:
    """MD5 or etag of a file; `listed` is its version in `list_versions`."""
    return listed or storage.md5(file_address(location, name))


@dataclass(frozen=True)
class FeatureSource:
    """The files of a set, those of S3 as empty files until they are read.

    root        the set on this machine: a file or a folder
    versions    see `list_versions`
    entries     by name in the set
    matches     the slides and patients of the table that the entries belong to
    lazy        whether the files below `root` are empty until `staged`
    """

    location: str
    root: Path
    versions: Mapping[str, str]
    entries: Mapping[str, SetEntry]
    matches: Matches
    lazy: bool = False

    def files(self, entry: SetEntry) -> list[str]:
        """The names of the files of an entry: its file, and those with the same name and another ending."""
        main = self._file(entry)
        stem = Path(main).name.removesuffix(Path(main).suffix) + "."
        first = bisect_left(self._sorted, (stem, ""))
        companions = []
        for base, name in self._sorted[first:]:
            if not base.startswith(stem):
                break
            companions.append(name)
        return sorted({main, *companions})

    def version(self, entry: SetEntry) -> dict[str, str]:
        """What identifies the features of an entry: {name: MD5 or etag}."""
        return {name: file_version(self.location, name, self.versions[name]) for name in self.files(entry)}

    @contextmanager
    def staged(self, entry: SetEntry) -> Iterator[None]:
        """Inside, the files of an entry are on this machine.

        Raises OperationalError when S3 does not answer, or the disk is full.
        """
        remote = self.files(entry) if self.lazy else []
        for name in remote:
            _download(file_address(self.location, name), self.root / name)
        try:
            yield
        finally:
            for name in remote:
                (self.root / name).write_bytes(b"")

    def coverage(self) -> str:
        """How entries and table match, as a sentence."""
        covered, missing = len(self.matches.by_name), [slide.slide_id for slide in self.matches.without_features]
        text = f"{covered} entries of the set belong to the table of slides"
        text += f"; {len(missing)} slides have no features{_first(missing)}" if missing else ""
        unlisted = self.matches.unlisted
        return text + (f"; {len(unlisted)} entries belong to no slide{_first(unlisted)}" if unlisted else "")

    @cached_property
    def _sorted(self) -> list[tuple[str, str]]:
        return sorted((Path(name).name, name) for name in self.versions)

    @cached_property
    def _paths(self) -> dict[str, str]:
        """The name of each file by its path on this machine."""
        return {str(self.root if self.root.is_file() else self.root / name): name for name in self.versions}

    def _file(self, entry: SetEntry) -> str:
        """The name of the file that holds an entry; `where` is its path, or path and key."""
        if entry.where in self._paths:
            return self._paths[entry.where]
        return next(name for path, name in self._paths.items() if entry.where.startswith(f"{path}, "))


@contextmanager
def open_source(params: ImportParams, listed: Mapping[str, ListedSlide]) -> Iterator[FeatureSource]:
    """The set that the settings name, matched to a table of slides.

    Raises DataError when there is no such set, it has no file of the format, or no entry belongs to the table.
    """
    versions = list_versions(params.path)
    with TemporaryDirectory(prefix="mcti-import-") as scratch:
        lazy = storage.is_s3(params.path) and _has_a_file_per_slide(versions)
        root = (
            _skeleton(params.path, versions, Path(scratch), lazy) if storage.is_s3(params.path) else Path(params.path)
        )
        try:
            members = exchange.find_entries(root, params.format)
        except DataError as error:
            raise DataError(error.what, params.path, "check extract.import.path and extract.import.format") from error
        by_name = entries.by_name(members)
        redaction.register_ids(by_name)
        matches = names.match(by_name, listed)
        if not matches.by_name:
            what = f"no entry belongs to the table of slides ({members[0].name!r}, slide {min(listed)!r})"
            raise DataError(what, params.path, "name each file <slide_id> with its ending, or correct the slide ids")
        yield FeatureSource(params.path.rstrip("/"), root, versions, by_name, matches, lazy)


def _has_a_file_per_slide(versions: Mapping[str, str]) -> bool:
    """Whether the names of the files suffice to list the entries; a set of one file, or of CSV tables, is read."""
    return len([name for name in versions if name.lower().endswith(DATA_SUFFIXES) and not name.endswith(".csv")]) > 1


def _skeleton(location: str, versions: Mapping[str, str], scratch: Path, lazy: bool) -> Path:
    """The files of S3 below `scratch`, empty where `lazy`. The folder keeps its name, which may state the encoder."""
    root = scratch / location.rstrip("/").rpartition("/")[2]
    for name in versions:
        address = file_address(location, name)
        target = root if address == location.rstrip("/") else root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if lazy:
            target.touch()
        else:
            _download(address, target)
    return root


def _download(address: str, target: Path) -> None:
    with storage.local_copy(address, target.parent) as copy:  # the copy of a pinned file has the name of its MD5
        copy.replace(target)


def file_address(location: Location, name: str) -> str:
    """The address of a file of a set; a set of one file has its own name."""
    base = os.fspath(location).rstrip("/")
    return base if base.rpartition("/")[2] == name else storage.join(base, name)


def _local_names(root: Path) -> list[str]:
    with storage.translating_os_errors(root):
        if root.is_file():
            return [root.name]
        paths = [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    return [path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts)]


def _first(items: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return f" ({', '.join(items[:SHOWN])}{more})"
