"""Where bytes live: local paths, `s3://` addresses and versions in DVC's remote (`pinned`); whole files or nothing.

The only module that imports boto3. Credentials and endpoint come from the environment alone (AWS_ENDPOINT_URL_S3,
AWS_SHARED_CREDENTIALS_FILE, AWS_PROFILE, a pod's service account, …), so no secret passes through our settings.
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from mcti import pinned
from mcti.errors import DataError, EnvironmentTrouble, MctiError

Location = str | os.PathLike[str]
"""A local path, an `s3://bucket/key` address or a `dvc+s3://` one. A string: `Path("s3://b/k")` loses a slash."""


class Conflict(EnvironmentTrouble):
    """A conditional write came second: somebody else wrote the object first."""


_OS_TROUBLE = {
    errno.ENOSPC: ("no room on the disk", "free some space and run the same command again: finished work is kept"),
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
    """`names` below `location`, for a path and an address alike."""
    if is_s3(location):
        return "/".join([os.fspath(location).rstrip("/"), *names])
    return str(Path(location, *names))


def trouble(error: OSError, where: Location | None = None) -> MctiError:
    """The error a person can act on for what the operating system said."""
    place = str(where or error.filename or "")
    if isinstance(error, FileNotFoundError):
        return DataError("no such file or folder", place, "check the path")
    if isinstance(error, IsADirectoryError | NotADirectoryError):
        return DataError("a file was expected where a folder is, or the reverse", place, "check the path")
    what, mend = _OS_TROUBLE.get(error.errno or 0, (error.strerror or str(error), "see the message of the system"))
    return EnvironmentTrouble(what, place, mend)


@contextlib.contextmanager
def explained(where: Location | None = None) -> Iterator[None]:
    """Turn an OSError of the body into an MctiError that names the place and the mend."""
    try:
        yield
    except OSError as error:
        raise trouble(error, where) from error


@contextlib.contextmanager
def replacing(out: Location) -> Iterator[Path]:
    """A draft beside `out` (a file or a folder) that takes its place when the body ends well, and is gone when not.

    A reader sees the old result or the new one, never a part. A draft left by a killed process is thrown away.
    The body creates the draft as a file, or as a folder with `draft.mkdir()`.

    Raises
        EnvironmentTrouble: the place cannot be written, or the disk is full.
    """
    target = Path(out)
    draft = target.parent / f".{target.name}.draft"
    with explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove(draft)
        try:
            yield draft
            _sync(draft)
            _swap(draft, target)
        finally:
            _remove(draft)


def write_text(out: Location, text: str) -> None:
    """`text` as UTF-8 to `out`, whole or not at all."""
    if is_s3(out):
        put(out, text.encode())
        return
    with replacing(out) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(out: Location, value: object) -> None:
    """`value` as indented JSON with sorted keys, whole or not at all; the same value gives the same bytes."""
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
    except ValueError as error:
        raise DataError(
            f"not a JSON document ({error})", str(location), "write it anew with the step it comes from"
        ) from error


def read_bytes(location: Location) -> bytes:
    """All bytes of a file or an object; those of a pinned one are held against its MD5."""
    if pinned.is_pinned(location):
        return pinned.read(os.fspath(location), read_bytes)
    if is_s3(location):
        bucket, key = split_address(location)
        with _service(location):
            return bytes(client().get_object(Bucket=bucket, Key=key)["Body"].read())
    with explained(location):
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
    bucket, key = split_address(location)
    with _service(location):
        found = client().list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
    return bool(found.get("KeyCount"))


@contextlib.contextmanager
def local(location: Location, cache_dir: Location | None = None) -> Iterator[Path]:
    """A local path with the contents of `location`: itself, or a temporary copy of the object or prefix.

    The copy is deleted at the end; it is staged below `cache_dir` (default: the system's temporary folder).

    Raises
        DataError: nothing is there.
        EnvironmentTrouble: the service or the disk is in the way.
    """
    if not is_s3(location):
        if not Path(location).exists():
            raise DataError("no such file or folder", str(location), "check the path, or run the step that makes it")
        yield Path(location)
        return
    with explained(cache_dir), tempfile.TemporaryDirectory(prefix="mcti-", dir=cache_dir) as folder:
        yield _download(location, Path(folder))


def put(location: Location, body: bytes, *, only_if_absent: bool = False, only_if_etag: str = "") -> str:
    """Write one object; the new etag. With a condition, `Conflict` when somebody else was first."""
    bucket, key = split_address(location)
    condition = {"IfNoneMatch": "*"} if only_if_absent else {"IfMatch": only_if_etag} if only_if_etag else {}
    with _service(location):
        return str(client().put_object(Bucket=bucket, Key=key, Body=body, **condition)["ETag"])


def split_address(location: Location) -> tuple[str, str]:
    """Bucket and key of an `s3://bucket/key` address."""
    bucket, _, key = os.fspath(location).removeprefix("s3://").partition("/")
    if not os.fspath(location).startswith("s3://") or not bucket:
        raise DataError(f"{os.fspath(location)!r} is not an S3 address", mend="write s3://bucket/key")
    return bucket, key


def md5(path: Location) -> str:
    """Hex MD5 of a local file, as DVC writes it (an identity, not a defence)."""
    digest = hashlib.md5(usedforsecurity=False)
    with explained(path), Path(path).open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def text_md5(text: str) -> str:
    """Hex MD5 of a text in UTF-8 (an identity, not a defence)."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def tree_md5(path: Location) -> str:
    """One MD5 over a file, or over names and contents of all files below a folder (hidden ones left out)."""
    root = Path(path)
    if not root.is_dir():
        return md5(root)
    digest = hashlib.md5(usedforsecurity=False)
    for file in sorted(p for p in root.rglob("*") if p.is_file() and not p.name.startswith(".")):
        digest.update(f"{file.relative_to(root).as_posix()}\0{md5(file)}\n".encode())
    return digest.hexdigest()


def get(location: Location) -> tuple[bytes, str]:
    """Bytes and etag of one object; the etag is what `put(only_if_etag=…)` wants.

    Raises
        DataError: there is no such object.
    """
    bucket, key = split_address(location)
    with _service(location):
        found = client().get_object(Bucket=bucket, Key=key)
        return bytes(found["Body"].read()), str(found["ETag"])


def addresses(prefix: Location) -> list[str]:
    """The addresses of all objects below a prefix, sorted."""
    if pinned.is_pinned(prefix):
        root = os.fspath(prefix).rstrip("/")
        return sorted(join(root, name) if name else root for name in pinned.files(root, read_bytes))
    bucket, key = split_address(prefix)
    with _service(prefix):
        pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        return sorted(f"s3://{bucket}/{item['Key']}" for page in pages for item in page.get("Contents", ()))


def keeps_versions(location: Location) -> bool | None:
    """Whether the bucket of an s3:// address keeps what is overwritten or deleted; None where we may not ask.

    Raises EnvironmentTrouble when S3 is in the way.
    """
    from botocore.exceptions import ClientError

    bucket, _ = split_address(location)
    with _service(location):
        try:
            return bool(client().get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled")
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in {"AccessDenied", "403", "NotImplemented"}:
                return None
            raise


def ensure_bucket(name: str, *, versioned: bool = False) -> None:
    """Make the bucket unless it is there; versioned: it keeps what an overwrite or a deletion hides.

    Raises
        EnvironmentTrouble: S3 does not answer, or refuses the credentials.
    """
    with _service(f"s3://{name}"):
        if name not in {bucket["Name"] for bucket in client().list_buckets()["Buckets"]}:
            client().create_bucket(Bucket=name)
        if versioned and client().get_bucket_versioning(Bucket=name).get("Status") != "Enabled":
            client().put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})


def client() -> Any:
    """The S3 client that the environment describes now; one per description, since making one takes 0.3 s."""
    return _client(tuple(os.environ.get(name, "") for name in _CLIENT_ENVIRONMENT))


_CLIENT_ENVIRONMENT = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_MAX_ATTEMPTS",
)


@cache
def _client(environment: tuple[str, ...]) -> Any:  # noqa: ARG001  (the key of the cache)
    import boto3
    from botocore.config import Config

    # Waits double up to 20 s: 4 attempts last some seconds, enough for a person; a cluster's task asks for more.
    attempts = int(os.environ.get("AWS_MAX_ATTEMPTS") or 4)
    retries = {"total_max_attempts": attempts, "mode": "standard"}
    return boto3.Session().client("s3", config=Config(retries=retries, connect_timeout=5, read_timeout=60))


@contextlib.contextmanager
def _service(location: Location) -> Iterator[None]:
    from botocore import exceptions

    try:
        yield
    except exceptions.ClientError as error:
        raise _refusal(error.response.get("Error", {}).get("Code", ""), location) from error
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.ProfileNotFound) as error:
        raise EnvironmentTrouble(
            "no S3 credentials", str(location), "start the stack (mcti stack up) or set AWS_PROFILE"
        ) from error
    except exceptions.BotoCoreError as error:
        mend = "start the stack (mcti stack up) or check AWS_ENDPOINT_URL_S3"
        raise EnvironmentTrouble(f"S3 does not answer ({type(error).__name__})", str(location), mend) from error


def _refusal(code: str, location: Location) -> MctiError:
    if code in {"NoSuchKey", "404", "NoSuchBucket"}:
        return DataError("no such object", str(location), "check the address")
    if code in {"PreconditionFailed", "412", "ConditionalRequestConflict"}:
        return Conflict("somebody else wrote first", str(location), "read again and retry")
    if code in {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403"}:
        return EnvironmentTrouble(
            f"S3 refused the credentials ({code})", str(location), f"check {_whose_keys()} and their rights"
        )
    return EnvironmentTrouble(f"S3 answered {code}", str(location), "see the log of the service")


def _whose_keys() -> str:
    """Where the keys come from, for people; never the keys."""
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    file = os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
    return f"the keys of profile {os.environ.get('AWS_PROFILE') or 'default'} in {file}"


def size(location: Location) -> int:
    """Bytes of a file, or of all objects at an address.

    Raises
        DataError: nothing is there.
    """
    if not is_s3(location):
        with explained(location):
            return Path(location).stat().st_size
    total = 0
    for address in _objects(location):
        bucket, key = split_address(address)
        with _service(address):
            total += int(client().head_object(Bucket=bucket, Key=key)["ContentLength"])
    if not total and not exists(location):
        raise DataError("no such object", str(location), "check the address")
    return total


def _objects(location: Location) -> list[str]:
    """The `s3://` addresses of the objects that hold what lies at an address."""
    if not pinned.is_pinned(location):
        return addresses(location)
    return [version.object for version in pinned.files(os.fspath(location), read_bytes).values()]


def ranged(location: Location) -> tuple[Callable[[int, int], bytes], int]:
    """A function from (offset, size) to bytes of one object, and the object's size: a header without the rest.

    Raises
        DataError: there is no such object.
    """
    bucket, key = split_address(location)
    with _service(location):
        head = client().head_object(Bucket=bucket, Key=key)
    length, etag = int(head["ContentLength"]), head["ETag"]

    def pread(offset: int, count: int) -> bytes:
        end = min(offset + count, length)
        if end <= offset:
            return b""
        # IfMatch: an object that changes between two reads would give a mixture.
        span = {"Range": f"bytes={offset}-{end - 1}", "IfMatch": etag}
        with _service(location):
            return bytes(client().get_object(Bucket=bucket, Key=key, **span)["Body"].read())

    return pread, length


def stream(location: Location) -> io.BufferedReader:
    """An object as a file that can be read and sought: only the parts that are read are fetched."""
    return io.BufferedReader(_Ranged(location), 64 << 10)


class _Ranged(io.RawIOBase):
    def __init__(self, location: Location) -> None:
        self._pread, self._length = ranged(location)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = max(base + offset, 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        data = self._pread(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def download(location: Location, folder: Location) -> Path:
    """Copy what is at an address into `folder`, under its own name; the copy's path.

    Raises
        DataError: nothing is there.
    """
    return _download(location, Path(folder))


def remove(location: Location) -> None:
    """Delete a file or an object; nothing there is fine, too."""
    if not is_s3(location):
        with explained(location):
            Path(location).unlink(missing_ok=True)
        return
    bucket, key = split_address(location)
    with _service(location):
        client().delete_object(Bucket=bucket, Key=key)


def upload(path: Location, location: Location) -> None:
    """Copy a local file of any size to an object; it appears whole or not at all."""
    bucket, key = split_address(location)
    with _service(location), explained(path):
        client().upload_file(os.fspath(path), bucket, key)


def _download(location: Location, folder: Path) -> Path:
    if pinned.is_pinned(location):
        return _download_version(os.fspath(location), folder)
    bucket, prefix = split_address(location)
    root = folder / (prefix.rstrip("/").rpartition("/")[2] or bucket)
    with _service(location):
        pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
        wanted = [key for key in keys if key == prefix or key.startswith(prefix.rstrip("/") + "/") or not prefix]
        for key in wanted:
            below = key.removeprefix(prefix).lstrip("/")
            target = (root / below) if below else root
            if not target.resolve().is_relative_to(folder.resolve()):
                raise DataError(f"object name {key!r} leaves its folder", str(location), "rename the object")
            target.parent.mkdir(parents=True, exist_ok=True)
            client().download_file(bucket, key, str(target))
    if not wanted:
        raise DataError("no such object", str(location), "check the address")
    return root


def _download_version(address: str, folder: Path) -> Path:
    """As `_download`; each file is held against its MD5 before anybody sees it."""
    root = folder / address.rstrip("/").rpartition("/")[2]
    for name, version in pinned.files(address, read_bytes).items():
        target = root / name if name else root
        target.parent.mkdir(parents=True, exist_ok=True)
        bucket, key = split_address(version.object)
        with _service(version.object):
            client().download_file(bucket, key, str(target))
        pinned.check(md5(target), version)
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
    # rename() cannot replace a folder that is not empty, so the old one steps aside first.
    old = target.parent / f".{target.name}.old"
    _remove(old)
    if target.is_dir():
        target.rename(old)
    draft.rename(target)
    _remove(old)
