"""Versions in DVC's remote without DVC: results go there, and one small document says which version is the newest.

What `publish` writes is what `dvc push` would have written, byte for byte, and the `.dvc` text it gives back is what
`dvc pull` wants. The newest version of a cohort's sources stands in REMOTE/heads/NAME.json (`set_head`, `head`); git
knows it too, but a cluster has no git.
"""

import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from mcti import pinned, s3, storage
from mcti.errors import DataError
from mcti.storage import Location

_log = logging.getLogger(__name__)

_THREADS = 8  # S3 answers one request after the other slowly, and many at once quickly


class Version(BaseModel):
    """A file or folder in the remote: `address` reads it, `pointer` is the text of its .dvc file."""

    model_config = ConfigDict(frozen=True)
    md5: str
    address: str
    files: int
    bytes: int
    uploaded: int
    pointer: str = Field(repr=False)


def keys(data: str, *sections: str) -> list[str]:
    """For each step of a row one SHA-256 of all that its result follows from.

    data        MD5 of the sources
    sections    settings of the steps, in their order, as text
    """
    hashed, found = hashlib.sha256(data.encode()), []
    for section in sections:
        hashed.update(b"\0" + section.encode())
        found.append(hashed.hexdigest())
    return found


class Head(BaseModel):
    """The newest version of the sources of a cohort."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    md5: str = Field(pattern=r"^[0-9a-f]{32}\.dir$")


def publish(path: Location, remote: str, name: str | None = None) -> Version:
    """Copy a file or folder to the remote under its MD5s; what lies there already is not sent again.

    remote  s3://bucket/prefix, the `url` of a remote in .dvc/config
    name    path in the .dvc file; default: the last part of `path`
    Raises  DataError when there is nothing; OperationalError when S3 is in the way. The manifest of a folder is
            written last: a version is there whole, or not at all.
    """
    root = Path(path)
    if not root.exists():
        raise DataError("no such file or folder", str(path), "check the path")
    parts = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
    with ThreadPoolExecutor(_THREADS) as pool:
        md5s = list(pool.map(storage.md5, parts))
        sent = sum(pool.map(_send, parts, md5s, repeat(remote)))
    md5 = md5s[0] if root.is_file() else _seal(root, dict(zip(parts, md5s, strict=True)), remote)
    sizes = [part.stat().st_size for part in parts]
    _log.info("published %s as %s: %d files, %d bytes, %d files sent", path, md5, len(parts), sum(sizes), sent)
    return Version(
        md5=md5,
        address=str(pinned.Pinned(remote.rstrip("/"), md5)),
        files=len(parts),
        bytes=sum(sizes),
        uploaded=sent,
        pointer=pinned.pointer(md5, name or root.name, sizes),
    )


def verify(address: str) -> list[str]:
    """What is wrong with a version: every file is read whole and held against its MD5; empty when all is well."""
    try:
        found = sorted(pinned.files(address, storage.read_bytes).items())
    except DataError as error:
        return [str(error)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [fault for fault in pool.map(lambda item: _fault(*item), found) if fault]


def of_source(source: Location) -> str:
    """The MD5 in the `.dvc` file beside the folder of a source table; empty when nobody versions that folder.

    A table beside params.yaml lies in the project itself, which is no folder of sources that DVC could version.
    """
    folder = Path(os.path.normpath(Path(source).parent))
    if storage.is_s3(source) or folder.name in ("", ".."):
        return ""
    record = folder.with_name(f"{folder.name}.dvc")
    if not record.is_file():
        return ""
    import yaml

    return str(yaml.safe_load(record.read_text(encoding="utf-8"))["outs"][0]["md5"])


def set_head(remote: str, name: str, md5: str) -> Head:
    """Declare the version of the sources that a retraining takes next.

    Raises
        DataError: the version is not in the remote, or not all of it.
    """
    head = Head(md5=md5)
    address = str(pinned.Pinned(remote.rstrip("/"), md5))
    known = pinned.entries(pinned.parse(address), storage.read_bytes)
    with ThreadPoolExecutor(_THREADS) as pool:
        there = pool.map(lambda item: storage.exists(pinned.object_of(remote, item)), known.values())
        missing = [name for name, found in zip(known, there, strict=True) if not found]
    if missing:
        raise DataError(f"{len(missing)} files are missing, the first {missing[0]}", address, "run `dvc push` first")
    s3.put(_head_of(remote, name), storage.to_json(head.model_dump()).encode())
    return head


def head(remote: str, name: str) -> Head:
    """The newest version of the sources of cohort `name`.

    Raises
        DataError: nobody declared one.
    """
    address = _head_of(remote, name)
    try:
        return Head.model_validate(storage.read_json(address))
    except ValueError as error:
        raise DataError("not a head", address, "declare the version anew: mcti data head") from error


def record(version: Version, remote: str, run: str, name: str) -> str:
    """Keep the `.dvc` file of a result under the run that made it; its address."""
    address = storage.join(remote, "runs", run, f"{name}.dvc")
    s3.put(address, version.pointer.encode())
    return address


def recorded(remote: str, run: str) -> dict[str, str]:
    """The `.dvc` files of a run: {name: text}.

    Raises
        DataError: the run published nothing.
    """
    folder = storage.join(remote, "runs", run, "")
    ours = [address for address in storage.addresses(folder) if address.endswith(".dvc")]  # its outcome lies there too
    found = {address.removeprefix(folder): storage.read_bytes(address).decode() for address in ours}
    if not found:
        raise DataError(f"run {run} published nothing", folder, "see its state: mcti pipeline status")
    return found


def _head_of(remote: str, name: str) -> str:
    return storage.join(remote, "heads", f"{name}.json")


def _seal(root: Path, md5s: dict[Path, str], remote: str) -> str:
    body = pinned.manifest({file.relative_to(root).as_posix(): md5 for file, md5 in md5s.items()})
    md5 = f"{pinned.digest(body)}.dir"
    s3.put(pinned.object_of(remote, md5), body)
    return md5


def _send(file: Path, md5: str, remote: str) -> int:
    address = pinned.object_of(remote, md5)
    if storage.exists(address):
        return 0
    storage.upload(file, address)
    return 1


def _fault(name: str, version: pinned.Pinned) -> str:
    try:
        with storage.local_copy(str(version)):
            return ""
    except DataError as error:
        return f"{name or os.fspath(version.object)}: {error}"
