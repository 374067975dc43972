"""Addresses of DVC's remote, pinned by MD5: `dvc+s3://BUCKET/PREFIX/MD5`, a folder as `…/MD5.dir[/PATH]`.

Such an address names bytes, not a place: every byte that is read through it is held against the MD5 in it, so that an
object changed under its name is refused. A folder's MD5 is that of its manifest, a JSON list of {md5, relpath} that
lies in the remote beside the files (DVC 3, `files/md5/`). No DVC and no git are needed; transport is storage's.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from mcti.errors import DataError

SCHEME = "dvc+s3://"
Fetch = Callable[[str], bytes]
"""The bytes at an `s3://` address."""

_MD5 = re.compile(r"[0-9a-f]{32}")
_VERSION = re.compile(rf"{_MD5.pattern}(\.dir)?")


class ChecksumMismatch(DataError):
    """The bytes of an object are not those of its address: never a matter of one slide."""


@dataclass(frozen=True)
class Pinned:
    """A parsed address: `remote` (s3://bucket/prefix), `md5` (`.dir` at its end: a folder), `path` below the folder."""

    remote: str
    md5: str
    path: str = ""

    @property
    def is_folder(self) -> bool:
        """Whether the MD5 is that of a folder's manifest."""
        return self.md5.endswith(".dir")

    @property
    def object(self) -> str:
        """The `s3://` address of the object that holds the file, or the manifest of the folder."""
        return object_of(self.remote, self.md5)

    def __str__(self) -> str:
        base = f"{SCHEME}{self.remote.removeprefix('s3://')}/{self.md5}"
        return f"{base}/{self.path}" if self.path else base


def is_pinned(location: object) -> bool:
    """True for a `dvc+s3://` address."""
    return str(location).startswith(SCHEME)


def parse(address: str) -> Pinned:
    """The parts of a `dvc+s3://` address.

    Raises
        DataError: there is no MD5 in it.
    """
    parts = address.removeprefix(SCHEME).strip("/").split("/")
    at = next((i for i, part in enumerate(parts) if i and _VERSION.fullmatch(part)), None)
    if at is None or not is_pinned(address):
        raise DataError("no version in the address", address, "write dvc+s3://BUCKET/PREFIX/MD5, for a folder MD5.dir")
    found = Pinned("s3://" + "/".join(parts[:at]), parts[at], "/".join(parts[at + 1 :]))
    if found.path and not found.is_folder:
        raise DataError("a path below the version of a file", address, "end the MD5 of a folder with .dir")
    return found


def object_of(remote: str, md5: str) -> str:
    """Where DVC 3 keeps the object of an MD5."""
    return f"{remote.rstrip('/')}/files/md5/{md5[:2]}/{md5[2:]}"


def digest(body: bytes) -> str:
    """Hex MD5, as DVC names objects (an identity, not a defence)."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def check(found: str, pinned: Pinned) -> None:
    """Refuse bytes whose MD5 is not the one of the address.

    Raises
        ChecksumMismatch: the object was changed under its name, or came in part.
    """
    if found != pinned.md5.removesuffix(".dir"):
        hint = "the object was changed or cut short: push the version again from a machine that has it (`dvc push`)"
        raise ChecksumMismatch(f"the bytes have MD5 {found}, the version is {pinned.md5}", pinned.object, hint)


def read(address: str, fetch: Fetch) -> bytes:
    """All bytes of a pinned file, checked."""
    target = the_file(address, fetch)
    body = fetch(target.object)
    check(digest(body), target)
    return body


def the_file(address: str, fetch: Fetch) -> Pinned:
    """The version of the one file that an address names, looked up in its folder's manifest where it has one.

    Raises
        DataError: the folder has no such file, or the address names a folder.
    """
    pinned = parse(address)
    if not pinned.is_folder:
        return pinned
    known = entries(pinned, fetch)
    if pinned.path not in known:
        what = "a folder, where a file was expected" if not pinned.path else f"no file {pinned.path} in this version"
        raise DataError(what, address, f"the version has {len(known)} files; check the path")
    return replace(pinned, md5=known[pinned.path], path="")


def files(address: str, fetch: Fetch) -> dict[str, Pinned]:
    """The files at or below an address: {path below it: version}; a single file has the path "".

    Raises
        DataError: nothing is there.
    """
    pinned = parse(address)
    if not pinned.is_folder:
        return {"": pinned}
    known = entries(pinned, fetch)
    if pinned.path in known:
        return {"": replace(pinned, md5=known[pinned.path], path="")}
    prefix = f"{pinned.path}/" if pinned.path else ""
    found = {
        name[len(prefix) :]: replace(pinned, md5=md5, path="") for name, md5 in known.items() if name.startswith(prefix)
    }
    if not found:
        raise DataError("no such file or folder in this version", address, "check the path")
    return found


def entries(pinned: Pinned, fetch: Fetch) -> dict[str, str]:
    """{path: md5} of a folder's manifest, checked; read once a process, since an MD5 never means anything else."""
    return _entries(replace(pinned, path=""), fetch)


@lru_cache(maxsize=16)
def _entries(pinned: Pinned, fetch: Fetch) -> dict[str, str]:
    body = fetch(pinned.object)
    check(digest(body), pinned)
    try:
        found = {str(entry["relpath"]): str(entry["md5"]) for entry in json.loads(body)}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            "not a folder of DVC", pinned.object, "give the MD5.dir of a .dvc file or of dvc.lock"
        ) from error
    for name, md5 in found.items():
        if not _MD5.fullmatch(md5) or Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(
                f"entry {name!r} leaves its folder, or has no MD5", pinned.object, "version the folder anew"
            )
    return found


def manifest(found: Mapping[str, str]) -> bytes:
    """The manifest of a folder {path: md5} in the very bytes that DVC writes; their MD5 is the folder's."""
    listed = [{"md5": found[name], "relpath": name} for name in sorted(found)]
    return json.dumps(listed, sort_keys=True).encode()


def pointer(md5: str, path: str, sizes: Iterable[int]) -> str:
    """The text of a `.dvc` file: what `dvc pull` wants to know of a version."""
    counted = list(sizes)
    files_line = f"  nfiles: {len(counted)}\n" if md5.endswith(".dir") else ""
    return f"outs:\n- md5: {md5}\n  size: {sum(counted)}\n{files_line}  hash: md5\n  path: {path}\n"
