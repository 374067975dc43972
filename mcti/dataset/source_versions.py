"""The files of the sources and their versions: a change of one of them searches and trains again."""

import os
from collections.abc import Iterable
from pathlib import Path

from mcti import storage
from mcti.errors import DataError
from mcti.params.training import SourceParams
from mcti.storage import Location

_TABLES = ("cohort.json", "expression.parquet", "patients.parquet", "slides.parquet")


def list_files(sources: Iterable[SourceParams]) -> dict[str, str]:
    """The files of all sources: {address: MD5 or etag}, sorted; empty text for a local file; none is read.

    Raises DataError when there is no such cohort or folder of features.
    """
    files: dict[str, str] = {}
    for source in sources:
        files |= _files(source.cohort, _TABLES)
        files |= {} if source.features is None else _files(source.features, (".h5",))
    return dict(sorted(files.items()))


def version_of(address: str, listed: str) -> str:
    """MD5 or etag of a file; listed: its value in `list_files`."""
    return listed or storage.md5(address)


def _files(folder: Location, endings: tuple[str, ...]) -> dict[str, str]:
    if not storage.exists(folder):
        hint = "correct train.sources, or fetch the folder (`dvc pull`)"
        raise DataError("no such folder", str(folder), hint)
    if storage.is_s3(folder):
        versions = storage.versions_below(folder)
    else:
        names = (path.name for path in Path(folder).iterdir() if path.is_file())
        versions = dict.fromkeys(names, "")
    named = {name: version for name, version in versions.items() if name.endswith(endings) and "/" not in name}
    if not named:
        raise DataError(f"no file {' or '.join(endings)}", str(folder), "correct train.sources")
    return {os.fspath(storage.join(folder, name)): version for name, version in named.items()}
