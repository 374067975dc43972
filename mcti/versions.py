"""Versions of files and folders in DVC's remote, written and read without DVC and without git.

`publish` writes the same objects as `dvc push`, byte for byte, and returns the text of the `.dvc` file that `dvc pull`
needs. REMOTE/heads/NAME.json records the latest version of a cohort's source tables (`set_latest_version`,
`latest_version`): git records it too, but the pods of a cluster have no git repository.
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

_ONE_REQUEST_BYTES = 1 << 20
"""A file of this size or less is sent without a request whether the remote has it: the store refuses it then."""
_THREADS = 8  # The latency of S3 requests dominates the duration: requests are sent in parallel.


class Version(BaseModel):
    """A file or folder in the remote.

    md5       MD5 of the file, or of the folder's manifest with the ending `.dir`
    address   `dvc+s3://` address that reads it
    files     number of files;  bytes  their total size;  uploaded  number of files that this call uploaded
    pointer   text of the .dvc file
    """

    model_config = ConfigDict(frozen=True)
    md5: str
    address: str
    files: int
    bytes: int
    uploaded: int
    pointer: str = Field(repr=False)


class LatestVersion(BaseModel):
    """The latest version of the source tables of a cohort."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    md5: str = Field(pattern=r"^[0-9a-f]{32}\.dir$")


def stage_keys(data: str, *sections: str) -> list[str]:
    """One cache key for each stage of a pipeline: a SHA-256 over everything that determines the result of the stage.

    data        MD5 of the source tables
    sections    settings of the stages as text, in the order of the stages
    """
    hashed, keys = hashlib.sha256(data.encode()), []
    for section in sections:
        hashed.update(b"\0" + section.encode())
        keys.append(hashed.hexdigest())
    return keys


def publish(path: Location, remote: str, name: str | None = None) -> Version:
    """Copy a file or folder to the remote under its MD5s. Objects that exist are not uploaded again.

    The manifest of a folder is written last: a version is complete in the remote, or absent.

    remote  s3://bucket/prefix, the `url` of a remote in .dvc/config
    name    path in the .dvc file; default: the last part of `path`

    Raises
        DataError when `path` does not exist.
        OperationalError when S3 does not answer or refuses the request.
    """
    root = Path(path)
    if not root.exists():
        raise DataError("no such file or folder", str(path), "check the path")
    parts = [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file())
    with ThreadPoolExecutor(_THREADS) as pool:
        md5s = list(pool.map(storage.md5, parts))
        uploaded = sum(pool.map(_upload_if_missing, parts, md5s, repeat(remote)))
    md5 = md5s[0] if root.is_file() else _put_manifest(root, dict(zip(parts, md5s, strict=True)), remote)
    sizes = [part.stat().st_size for part in parts]
    message = "published %s as %s: %d files, %d bytes, %d files uploaded"
    _log.info(message, path, md5, len(parts), sum(sizes), uploaded)
    return Version(
        md5=md5,
        address=str(pinned.Pinned(remote.rstrip("/"), md5)),
        files=len(parts),
        bytes=sum(sizes),
        uploaded=uploaded,
        pointer=pinned.pointer_text(md5, name or root.name, sizes),
    )


def verify(address: str) -> list[str]:
    """Read every file of a version and compare its MD5; one message per fault, an empty list for an intact version."""
    try:
        files = sorted(pinned.files(address, storage.read_bytes).items())
    except DataError as error:
        return [str(error)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [fault for fault in pool.map(lambda item: _fault(*item), files) if fault]


def source_md5(source: Location) -> str:
    """The MD5 in the `.dvc` file of the folder of a source table; empty where DVC does not track that folder.

    A table next to params.yaml is in the root of the project, which DVC cannot track as a source folder.
    """
    folder = Path(os.path.normpath(Path(source).parent))
    if storage.is_s3(source) or folder.name in ("", ".."):
        return ""
    pointer = folder.with_name(f"{folder.name}.dvc")
    if not pointer.is_file():
        return ""
    import yaml

    return str(yaml.safe_load(pointer.read_text(encoding="utf-8"))["outs"][0]["md5"])


def set_latest_version(remote: str, name: str, md5: str) -> LatestVersion:
    """Declare the version of the source tables of cohort `name` that the next retraining uses.

    Raises
        DataError when the version, or one of its files, is not in the remote.
    """
    version = LatestVersion(md5=md5)
    address = str(pinned.Pinned(remote.rstrip("/"), md5))
    entries = pinned.manifest_entries(pinned.parse(address), storage.read_bytes)
    with ThreadPoolExecutor(_THREADS) as pool:
        exists = pool.map(lambda item: storage.exists(pinned.object_address(remote, item)), entries.values())
        missing = [file for file, present in zip(entries, exists, strict=True) if not present]
    if missing:
        raise DataError(f"{len(missing)} files are missing, the first {missing[0]}", address, "run `dvc push` first")
    s3.put(_latest_address(remote, name), storage.to_json(version.model_dump()).encode())
    return version


def latest_version(remote: str, name: str) -> LatestVersion:
    """The latest version of the source tables of cohort `name`.

    Raises
        DataError when no version was declared, or the record is invalid.
    """
    address = _latest_address(remote, name)
    try:
        return LatestVersion.model_validate(storage.read_json(address))
    except ValueError as error:
        hint = "declare the version again: mcti data set-latest"
        raise DataError("not a record of the latest version", address, hint) from error


def save_run_pointer(version: Version, remote: str, run: str, name: str) -> str:
    """Write the `.dvc` file of a result below the id of the run that computed it; returns its address."""
    address = storage.join(remote, "runs", run, f"{name}.dvc")
    s3.put(address, version.pointer.encode())
    return address


def run_pointers(remote: str, run: str) -> dict[str, str]:
    """The `.dvc` files of the results of a run: {name: text}.

    Raises
        DataError when the run published no result.
    """
    folder = storage.join(remote, "runs", run, "")
    # The outcome of the run is stored in the same folder.
    pointers = [address for address in storage.addresses(folder) if address.endswith(".dvc")]
    texts = {address.removeprefix(folder): storage.read_bytes(address).decode() for address in pointers}
    if not texts:
        raise DataError(f"run {run} published no result", folder, "check its state: mcti pipeline status")
    return texts


def _latest_address(remote: str, name: str) -> str:
    return storage.join(remote, "heads", f"{name}.json")


def _put_manifest(root: Path, md5s: dict[Path, str], remote: str) -> str:
    body = pinned.manifest_bytes({file.relative_to(root).as_posix(): md5 for file, md5 in md5s.items()})
    md5 = f"{pinned.md5_hex(body)}.dir"
    s3.put(pinned.object_address(remote, md5), body)
    return md5


def _upload_if_missing(file: Path, md5: str, remote: str) -> int:
    address = pinned.object_address(remote, md5)
    if file.stat().st_size <= _ONE_REQUEST_BYTES:
        try:
            s3.put(address, file.read_bytes(), only_if_absent=True)
            return 1
        except s3.Conflict as refused:
            if not isinstance(refused, s3.ConcurrentWrite):
                return 0
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
