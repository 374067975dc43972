"""Addresses of DVC's remote, pinned by MD5: `dvc+s3://BUCKET/PREFIX/MD5`, a folder as `…/MD5.dir[/PATH]`.

Such an address identifies content: every byte read through it is checked against the MD5 in the address, so that an
object that was changed under its name is refused. The MD5 of a folder is that of its manifest, a JSON list of
{md5, relpath} that is stored in the remote with the files (DVC 3, `files/md5/`). Neither DVC nor git is needed;
`mcti.storage` transfers the bytes.
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
    """The bytes of an object do not match the MD5 in its address. It ends the run: the cause is not a single slide."""


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
        return object_address(self.remote, self.md5)

    def __str__(self) -> str:
        base = f"{SCHEME}{self.remote.removeprefix('s3://')}/{self.md5}"
        return f"{base}/{self.path}" if self.path else base


def is_pinned(location: object) -> bool:
    """True for a `dvc+s3://` address."""
    return str(location).startswith(SCHEME)


def parse(address: str) -> Pinned:
    """The parts of a `dvc+s3://` address.

    Raises
        DataError when it contains no MD5, or a path below the version of a file.
    """
    parts = address.removeprefix(SCHEME).strip("/").split("/")
    index = next((i for i, part in enumerate(parts) if i and _VERSION.fullmatch(part)), None)
    if index is None or not is_pinned(address):
        raise DataError("no version in the address", address, "write dvc+s3://BUCKET/PREFIX/MD5, for a folder MD5.dir")
    version = Pinned("s3://" + "/".join(parts[:index]), parts[index], "/".join(parts[index + 1 :]))
    if version.path and not version.is_folder:
        raise DataError("a path below the version of a file", address, "end the MD5 of a folder with .dir")
    return version


def object_address(remote: str, md5: str) -> str:
    """The address at which DVC 3 stores the object with an MD5."""
    return f"{remote.rstrip('/')}/files/md5/{md5[:2]}/{md5[2:]}"


def md5_hex(body: bytes) -> str:
    """Hex MD5, as DVC names objects (an identity, not a protection against attackers)."""
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def check_md5(md5: str, pinned: Pinned) -> None:
    """Compare the MD5 of the bytes that were read with the one in the address.

    Raises
        ChecksumMismatch when they differ: the object was changed under its name, or transferred in part.
    """
    if md5 != pinned.md5.removesuffix(".dir"):
        hint = "the object was changed or truncated: push the version again from a machine that has it (`dvc push`)"
        raise ChecksumMismatch(f"the bytes have MD5 {md5}, the version is {pinned.md5}", pinned.object, hint)


def read(address: str, fetch: Fetch) -> bytes:
    """All bytes of a pinned file, checked against its MD5.

    Raises
        DataError when the address names no file of the version, or the bytes do not match.
    """
    target = resolve_file(address, fetch)
    body = fetch(target.object)
    check_md5(md5_hex(body), target)
    return body


def resolve_file(address: str, fetch: Fetch) -> Pinned:
    """The version of the single file at an address; a file in a folder is resolved by the manifest of the folder.

    Raises
        DataError when the folder has no such file, or the address names a folder.
    """
    pinned = parse(address)
    if not pinned.is_folder:
        return pinned
    entries = manifest_entries(pinned, fetch)
    if pinned.path not in entries:
        what = "a folder, where a file was expected" if not pinned.path else f"no file {pinned.path} in this version"
        raise DataError(what, address, f"the version has {len(entries)} files; check the path")
    return replace(pinned, md5=entries[pinned.path], path="")


def files(address: str, fetch: Fetch) -> dict[str, Pinned]:
    """The files at or below an address: {path below it: version}; a single file has the path "".

    Raises
        DataError when the version has no file at or below the address.
    """
    pinned = parse(address)
    if not pinned.is_folder:
        return {"": pinned}
    entries = manifest_entries(pinned, fetch)
    if pinned.path in entries:
        return {"": replace(pinned, md5=entries[pinned.path], path="")}
    prefix = f"{pinned.path}/" if pinned.path else ""
    below = {
        name[len(prefix) :]: replace(pinned, md5=md5, path="")
        for name, md5 in entries.items()
        if name.startswith(prefix)
    }
    if not below:
        raise DataError("no such file or folder in this version", address, "check the path")
    return below


def manifest_entries(pinned: Pinned, fetch: Fetch) -> dict[str, str]:
    """{path: md5} of a folder's manifest, checked. It is read once per process: content with one MD5 never changes.

    Raises
        DataError when the object is no manifest, or an entry has no MD5 or points outside the folder.
    """
    return _manifest_entries(replace(pinned, path=""), fetch)


@lru_cache(maxsize=16)
def _manifest_entries(pinned: Pinned, fetch: Fetch) -> dict[str, str]:
    body = fetch(pinned.object)
    check_md5(md5_hex(body), pinned)
    try:
        entries = {str(entry["relpath"]): str(entry["md5"]) for entry in json.loads(body)}
    except (ValueError, KeyError, TypeError) as error:
        hint = "use the MD5.dir of a .dvc file or of dvc.lock"
        raise DataError("not a folder of DVC", pinned.object, hint) from error
    for name, md5 in entries.items():
        if not _MD5.fullmatch(md5) or Path(name).is_absolute() or ".." in Path(name).parts:
            what = f"entry {name!r} points outside its folder, or has no MD5"
            raise DataError(what, pinned.object, "track the folder again with `dvc add`")
    return entries


def manifest_bytes(md5s: Mapping[str, str]) -> bytes:
    """The manifest of a folder {path: md5}, byte for byte as DVC writes it; its MD5 is that of the folder."""
    entries = [{"md5": md5s[name], "relpath": name} for name in sorted(md5s)]
    return json.dumps(entries, sort_keys=True).encode()


def pointer_text(md5: str, path: str, sizes: Iterable[int]) -> str:
    """The text of a `.dvc` file, which `dvc pull` reads; `sizes`: bytes of each file."""
    counted = list(sizes)
    files_line = f"  nfiles: {len(counted)}\n" if md5.endswith(".dir") else ""
    return f"outs:\n- md5: {md5}\n  size: {sum(counted)}\n{files_line}  hash: md5\n  path: {path}\n"
