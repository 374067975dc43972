"""Versions of files outside DVC, for a list on which a stage depends; unchanged files are not read again."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mcti import storage
from mcti.storage import Location

Entry = dict[str, Any]
"""version, and of a local file bytes and modified (ns): with equal values it is not read again."""


def read_list(out: Location) -> dict[str, Entry]:
    """The files of an earlier list {name: entry}; empty without one, or when it has another form."""
    if not storage.exists(out):
        return {}
    document = storage.read_json(out)
    return dict(document["files"]) if isinstance(document, dict) and "files" in document else {}


def current_versions(
    addresses: Mapping[str, str], known: Mapping[str, Entry], version: Callable[[str], str]
) -> tuple[dict[str, Entry], int]:
    """The entries of the files by name, and how many files were read for their MD5.

    addresses  {name: local path or s3:// address};  known  the entries of an earlier list
    version    of a file by its name
    """
    entries: dict[str, Entry] = {}
    read = 0
    for name, address in addresses.items():
        stamp, entry = _stamp(address), known.get(name, {})
        if not stamp or {key: entry.get(key) for key in stamp} != stamp:
            entry, read = {"version": version(name), **stamp}, read + bool(stamp)
        entries[name] = entry
    return entries, read


def _stamp(address: str) -> dict[str, int]:
    """Size in bytes and time of the last change in ns of a local file; empty for an object."""
    if storage.is_s3(address):
        return {}
    with storage.translating_os_errors(address):
        status = Path(address).stat()
    return {"bytes": status.st_size, "modified": status.st_mtime_ns}
