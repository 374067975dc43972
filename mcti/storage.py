"""Files at local paths, `s3://` addresses and versions in DVC's remote (`pinned`); writes are atomic.

A step accepts a `Location` of each of these types. Operations that only objects have are in mcti/s3.py.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mcti import pinned, s3
from mcti.errors import DataError, MctiError, OperationalError

Location = str | os.PathLike[str]
"""A local path, an `s3://bucket/key` address or a `dvc+s3://` one. A string: `Path("s3://b/k")` loses a slash."""

_OS_ERRORS = {
    errno.ENOSPC: ("the disk is full", "free some space and run the same command again: finished work is kept"),
    errno.EDQUOT: (
        "the disk quota is used up",
        "free some space and run the same command again: finished work is kept",
    ),
    errno.EFBIG: (
        "the file may not grow that large",
        "raise the limit (ulimit -f) and run the same command again: finished work is kept",
    ),
    errno.EROFS: ("the file system is read-only", "choose an output folder that can be written"),
    errno.EACCES: ("permission denied", "check the owner and the mode of the file or folder"),
    errno.EPERM: ("permission denied", "check the owner and the mode of the file or folder"),
    errno.EMFILE: ("too many open files", "raise the limit (ulimit -n 4096)"),
}


def is_s3(location: Location) -> bool:
    """True for an `s3://` address, pinned to a version (`dvc+s3://`) or not."""
    return os.fspath(location).startswith(("s3://", pinned.SCHEME))


def join(location: Location, *names: str) -> str:
    """`names` below `location`, a path or an address."""
    if is_s3(location):
        return "/".join([os.fspath(location).rstrip("/"), *names])
    return str(Path(location, *names))


def translate_os_error(error: OSError, where: Location | None = None) -> MctiError:
    """An OSError as an MctiError with location and hint."""
    location = str(where or error.filename or "")
    if isinstance(error, FileNotFoundError):
        return DataError("no such file or folder", location, "check the path")
    if isinstance(error, IsADirectoryError | NotADirectoryError):
        return DataError("a file was expected where a folder is, or the reverse", location, "check the path")
    what, hint = _OS_ERRORS.get(error.errno or 0, (error.strerror or str(error), "see the message of the system"))
    return OperationalError(what, location, hint)


@contextlib.contextmanager
def translating_os_errors(where: Location | None = None) -> Iterator[None]:
    """Translate an OSError of the body into an MctiError with location and hint.

    Raises
        DataError: a file or folder does not exist, or has the wrong type.
        OperationalError: every other OSError, such as a full disk or a missing permission.
    """
    try:
        yield
    except OSError as error:
        raise translate_os_error(error, where) from error


@contextlib.contextmanager
def replacing(out: Location) -> Iterator[Path]:
    """A draft next to `out` (a file or a folder) that replaces `out` when the body succeeds, and is deleted otherwise.

    A reader gets the old result or the new one, never a part. The next process deletes the draft of a killed one.
    The body creates the draft as a file, or as a folder with `draft.mkdir()`.

    Raises
        OperationalError: `out` cannot be written, or the disk is full.
    """
    target = Path(out)
    draft = target.parent / f".{target.name}.draft"
    with translating_os_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove(draft)
        try:
            yield draft
            _sync(draft)
            _swap(draft, target)
        finally:
            _remove(draft)


def write_text(out: Location, text: str) -> None:
    """Write `text` as UTF-8 to `out`, atomically."""
    if is_s3(out):
        s3.put(os.fspath(out), text.encode())
        return
    with replacing(out) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(out: Location, value: object) -> None:
    """Write `value` as indented JSON with sorted keys, atomically; the same value gives the same bytes."""
    write_text(out, to_json(value))


def to_json(value: object) -> str:
    """Indented JSON with sorted keys and a final newline; NaN is refused, since JSON has none."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(location: Location) -> Any:
    """The JSON document at a path or an address.

    Raises
        DataError: there is none, or it is not JSON.
    """
    try:
        return json.loads(read_bytes(location))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not a JSON document ({error})", str(location), "run the step that writes it again") from error


def read_bytes(location: Location) -> bytes:
    """All bytes of a file or an object; a pinned object is checked against its MD5."""
    if pinned.is_pinned(location):
        return pinned.read(os.fspath(location), read_bytes)
    if is_s3(location):
        return s3.get(os.fspath(location))[0]
    with translating_os_errors(location):
        return Path(location).read_bytes()


def exists(location: Location) -> bool:
    """Whether there is a file, folder, object or prefix at `location`."""
    if not is_s3(location):
        return Path(location).exists()
    if pinned.is_pinned(location):
        try:
            return all(exists(file.object) for file in pinned.files(os.fspath(location), read_bytes).values())
        except DataError:
            return False
    return s3.exists(os.fspath(location))


@contextlib.contextmanager
def local_copy(location: Location, cache_dir: Location | None = None) -> Iterator[Path]:
    """A local path with the contents of `location`: itself, or a temporary copy of the object or prefix.

    The copy is deleted at the end; it is staged below `cache_dir` (default: the system's temporary folder).

    Raises
        DataError: no such file or object.
        OperationalError: the service is unavailable, or the disk is full.
    """
    if not is_s3(location):
        if not Path(location).exists():
            raise DataError("no such file or folder", str(location), "check the path, or run the step that writes it")
        yield Path(location)
        return
    with translating_os_errors(cache_dir), tempfile.TemporaryDirectory(prefix="mcti-", dir=cache_dir) as folder:
        yield _download(location, Path(folder))


def md5(path: Location) -> str:
    """Hex MD5 of a local file, as DVC writes it (an identity, not a defence)."""
    digest = hashlib.md5(usedforsecurity=False)
    with translating_os_errors(path), Path(path).open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def text_md5(text: str) -> str:
    """Hex MD5 of a text in UTF-8 (an identity, not a defence)."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def tree_md5(path: Location) -> str:
    """One MD5 of a file, or of the names and contents of all files below a folder or address, without hidden files.

    It identifies a cohort or a source table, and so links an evaluation to its validation.
    """
    with local_copy(path) as root:
        if not root.is_dir():
            return md5(root)
        digest = hashlib.md5(usedforsecurity=False)
        for file in sorted(p for p in root.rglob("*") if p.is_file() and not p.name.startswith(".")):
            digest.update(f"{file.relative_to(root).as_posix()}\0{md5(file)}\n".encode())
        return digest.hexdigest()


def addresses(prefix: Location) -> list[str]:
    """The addresses of all objects below a prefix, sorted."""
    if pinned.is_pinned(prefix):
        root = os.fspath(prefix).rstrip("/")
        return sorted(join(root, name) if name else root for name in pinned.files(root, read_bytes))
    return s3.addresses(os.fspath(prefix))


def versions_below(prefix: Location) -> dict[str, str]:
    """What identifies the content of each object below an address: {name below it: MD5 or etag}, no object read.

    The address of one object gives one entry with the name "". The etag of an object that was uploaded in one part is
    its MD5.
    """
    root = os.fspath(prefix).rstrip("/")
    if pinned.is_pinned(prefix):
        return {name: version.md5 for name, version in pinned.files(root, read_bytes).items()}
    below = {address.removeprefix(f"{root}/"): etag for address, etag in s3.etags(f"{root}/").items()}
    if below:
        return below
    single = s3.etags(root).get(root)
    return {} if single is None else {"": single}


def size(location: Location) -> int:
    """Bytes of a file, or of all objects at an address.

    Raises
        DataError: no such file or object.
    """
    if not is_s3(location):
        with translating_os_errors(location):
            return Path(location).stat().st_size
    total = sum(s3.size(address) for address in _objects(location))
    if not total and not exists(location):
        raise DataError("no such object", str(location), "check the address")
    return total


def _objects(location: Location) -> list[str]:
    """The `s3://` addresses of the objects that store the files of an address."""
    if not pinned.is_pinned(location):
        return addresses(location)
    return [version.object for version in pinned.files(os.fspath(location), read_bytes).values()]


def download(location: Location, folder: Location) -> Path:
    """Copy the object or prefix at an address into `folder`, under its own name; return the path of the copy.

    Raises
        DataError: no such file or object.
    """
    return _download(location, Path(folder))


def remove(location: Location) -> None:
    """Delete a file or an object, if it exists."""
    if not is_s3(location):
        with translating_os_errors(location):
            Path(location).unlink(missing_ok=True)
        return
    s3.remove(os.fspath(location))


def upload(path: Location, location: Location) -> None:
    """Copy a local file of any size to an object, atomically."""
    with translating_os_errors(path):
        s3.upload(os.fspath(path), os.fspath(location))


def _download(location: Location, folder: Path) -> Path:
    if pinned.is_pinned(location):
        return _download_version(os.fspath(location), folder)
    bucket, prefix = s3.split_address(os.fspath(location))
    root = folder / (prefix.rstrip("/").rpartition("/")[2] or bucket)
    keys = [s3.split_address(address)[1] for address in s3.addresses(os.fspath(location))]
    matching = [key for key in keys if key == prefix or key.startswith(prefix.rstrip("/") + "/") or not prefix]
    for key in matching:
        below = key.removeprefix(prefix).lstrip("/")
        target = (root / below) if below else root
        if not target.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"object name {key!r} leaves its folder", str(location), "rename the object")
        target.parent.mkdir(parents=True, exist_ok=True)
        s3.download(f"s3://{bucket}/{key}", str(target))
    if not matching:
        raise DataError("no such object", str(location), "check the address")
    return root


def _download_version(address: str, folder: Path) -> Path:
    """As `_download`; each file is checked against its MD5."""
    root = folder / address.rstrip("/").rpartition("/")[2]
    for name, version in pinned.files(address, read_bytes).items():
        target = root / name if name else root
        target.parent.mkdir(parents=True, exist_ok=True)
        s3.download(version.object, str(target))
        pinned.check_md5(md5(target), version)
    return root


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


def _swap(draft: Path, target: Path) -> None:
    # rename() cannot replace a folder that is not empty, so the old one is renamed first.
    old = target.parent / f".{target.name}.old"
    _remove(old)
    if target.is_dir():
        target.rename(old)
    draft.rename(target)
    _remove(old)
