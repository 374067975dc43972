"""Objects at `s3://bucket/key` addresses: read, conditional write, list, read of ranges; errors with a hint.

This is the only module that creates a boto3 client. Credentials and endpoint come from the environment only
(AWS_ENDPOINT_URL_S3, AWS_SHARED_CREDENTIALS_FILE, AWS_PROFILE, a pod's service account, …), so the settings contain no
secret.
"""

import contextlib
import io
import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from mcti.errors import DataError, MctiError, OperationalError, service_hint
from mcti.waiting import log_while_waiting

_CONNECT_SECONDS, _SILENT_SECONDS, _LONGEST_PAUSE_SECONDS = 5, 60, 20
_MANY_REQUESTS = "each request ends after {:.0f} s without an answer"


class NotFound(DataError):
    """There is no such object."""


class Conflict(OperationalError):
    """A conditional write failed: another process changed the object first."""


class ConcurrentWrite(Conflict):
    """A conditional write met one of another process, which has not ended and may fail."""


class NoCredentials(OperationalError):
    """The environment has no keys for S3."""


def split_address(location: str) -> tuple[str, str]:
    """Bucket and key of an `s3://bucket/key` address.

    Raises DataError when the address has another form
    """
    bucket, _, key = location.removeprefix("s3://").partition("/")
    if not location.startswith("s3://") or not bucket:
        raise DataError(f"{location!r} is not an S3 address", hint="write s3://bucket/key")
    return bucket, key


def get(location: str) -> tuple[bytes, str]:
    """Bytes and etag of one object; pass the etag to `put(only_if_etag=…)`.

    Raises DataError: there is no such object.
    """
    bucket, key = split_address(location)
    with service(location):
        response = client().get_object(Bucket=bucket, Key=key)
        return bytes(response["Body"].read()), str(response["ETag"])


def put(location: str, body: bytes, *, only_if_absent: bool = False, only_if_etag: str = "") -> str:
    """Write one object; returns the new etag.

    Raises Conflict: the condition does not hold: another process wrote or deleted the object.
    """
    bucket, key = split_address(location)
    condition = {"IfNoneMatch": "*"} if only_if_absent else {"IfMatch": only_if_etag} if only_if_etag else {}
    with service(location), _deleted_is_conflict(location, bool(only_if_etag)):
        return str(client().put_object(Bucket=bucket, Key=key, Body=body, **condition)["ETag"])


@contextlib.contextmanager
def _deleted_is_conflict(location: str, conditional: bool) -> Iterator[None]:
    """An object that was deleted after it was read: S3 answers If-Match with 404, other servers with 412."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if conditional and error.response.get("Error", {}).get("Code") in {"NoSuchKey", "404"}:
            raise Conflict("the object was deleted since it was read", location, "read again and retry") from error
        raise


def addresses(prefix: str, *, after: str = "") -> list[str]:
    """The addresses of all objects below a prefix, sorted; after: only those that follow this address."""
    return sorted(etags(prefix, after=after))


def etags(prefix: str, *, after: str = "") -> dict[str, str]:
    """The etag of each object below a prefix, by address. after: as in `addresses`."""
    bucket, key = split_address(prefix)
    start = {"StartAfter": split_address(after)[1]} if after else {}
    with service(prefix, many=True):
        pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key, **start)
        items = [item for page in pages for item in page.get("Contents", ())]
    return {f"s3://{bucket}/{item['Key']}": str(item["ETag"]).strip('"') for item in items}


def addresses_of_all_versions(prefix: str) -> list[str]:
    """The addresses of all objects that were ever written below a prefix and not erased, sorted; of a bucket that is
    not versioned, the present ones.
    """
    bucket, key = split_address(prefix)
    with service(prefix, many=True):
        pages = client().get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key)
        keys = {item["Key"] for page in pages for item in page.get("Versions", ())}
    return sorted(f"s3://{bucket}/{key}" for key in keys)


def exists(prefix: str) -> bool:
    """Whether there is an object at an address or below it."""
    bucket, key = split_address(prefix)
    with service(prefix):
        return bool(client().list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("KeyCount"))


def size(location: str) -> int:
    """Bytes of one object."""
    bucket, key = split_address(location)
    with service(location):
        return int(client().head_object(Bucket=bucket, Key=key)["ContentLength"])


def remove(location: str) -> None:
    """Delete an object, if it exists."""
    bucket, key = split_address(location)
    with service(location):
        client().delete_object(Bucket=bucket, Key=key)


def upload(path: str, location: str) -> None:
    """Copy a local file of any size to an object, atomically."""
    bucket, key = split_address(location)
    with service(location, many=True):
        client().upload_file(path, bucket, key)


def download(location: str, path: str) -> None:
    """Copy an object of any size to a local file."""
    bucket, key = split_address(location)
    with service(location, many=True):
        client().download_file(bucket, key, path)


def has_versioning(location: str) -> bool | None:
    """Whether the bucket of an s3:// address is versioned; None without the right to read this."""
    from botocore.exceptions import ClientError

    bucket, _ = split_address(location)
    with service(location):
        try:
            return bool(client().get_bucket_versioning(Bucket=bucket).get("Status") == "Enabled")
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in {"AccessDenied", "403", "NotImplemented"}:
                return None
            raise


def has_object_lock(location: str) -> bool | None:
    """Whether new objects of the bucket of an s3:// address are locked; None without the right to read this."""
    from botocore.exceptions import ClientError

    bucket, _ = split_address(location)
    with service(location):
        try:
            configuration = client().get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code")
            if code in {"ObjectLockConfigurationNotFoundError", "NotImplemented"}:
                return False
            if code in {"AccessDenied", "403"}:
                return None
            raise
    return "DefaultRetention" in configuration.get("Rule", {})


def ensure_locked_bucket(name: str, days: int) -> None:
    """Create the bucket, if it does not exist, with versions whose deletion the store refuses for `days`.

    A store without object lock gets a versioned bucket; `has_object_lock` reports the difference.

    Raises OperationalError: S3 does not respond, or refuses the credentials.
    """
    from botocore.exceptions import ClientError

    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": days}}
    with service(f"s3://{name}", many=True):
        if name in {bucket["Name"] for bucket in client().list_buckets()["Buckets"]}:
            return
        try:
            client().create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
            lock = {"ObjectLockEnabled": "Enabled", "Rule": rule}
            client().put_object_lock_configuration(Bucket=name, ObjectLockConfiguration=lock)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") not in {"NotImplemented", "InvalidRequest", "501"}:
                raise
    ensure_bucket(name, versioned=True)


def ensure_bucket(name: str, *, versioned: bool = False) -> None:
    """Create the bucket if it does not exist; versioned: enable versioning.

    Raises OperationalError: S3 does not respond, or refuses the credentials.
    """
    with service(f"s3://{name}", many=True):
        if name not in {bucket["Name"] for bucket in client().list_buckets()["Buckets"]}:
            client().create_bucket(Bucket=name)
        if versioned and client().get_bucket_versioning(Bucket=name).get("Status") != "Enabled":
            client().put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})


def probe(bucket: str, seconds: float) -> str:
    """Send one signed request, without a retry: to a bucket, or for `""` to list the buckets; the server's name.

    seconds     limit for the connection, and for the answer

    Raises
        NotFound: there is no such bucket.
        OperationalError: S3 does not respond, or refuses the credentials.
    """
    with service(f"s3://{bucket or 'any-bucket'}"):
        client = _create_client(1, seconds, seconds)
        answer = client.list_objects_v2(Bucket=bucket, MaxKeys=1) if bucket else client.list_buckets()
    return str(answer["ResponseMetadata"].get("HTTPHeaders", {}).get("server", ""))


def endpoint() -> str:
    """The address of the S3 server that the environment names."""
    return str(client().meta.endpoint_url)


def client() -> Any:
    """The S3 client for the current environment variables; cached, since creating one takes 0.3 s."""
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
    return _create_client(_attempts(), _CONNECT_SECONDS, _SILENT_SECONDS)


def _create_client(attempts: int, connect_seconds: float, silent_seconds: float) -> Any:
    import boto3
    from botocore.config import Config

    session = boto3.Session()
    # A Secret made from a file may end with a line break; boto3 then reports that S3 does not respond.
    if (keys := session.get_credentials()) and re.search(r"\s", f"{keys.access_key}{keys.secret_key}"):
        raise OperationalError("a key of S3 contains a line break or blank", _source_of_keys(), "write only the key")
    retries = {"total_max_attempts": attempts, "mode": "standard"}
    config = Config(retries=retries, connect_timeout=connect_seconds, read_timeout=silent_seconds, tcp_keepalive=True)
    try:
        client = session.client("s3", config=config)
    except ValueError as error:  # an address without a scheme or host
        what = f"the address of S3 is invalid ({error})"
        raise OperationalError(what, "AWS_ENDPOINT_URL_S3", "write http://HOST:PORT") from error
    for operation in _LISTED:
        client.meta.events.register(f"before-parse.s3.{operation}", _take_items)
    return client


_LISTED = {"ListObjectsV2": ("Contents", "Contents"), "ListObjectVersions": ("Version", "Versions")}
"""Operations that list objects: the element of an item, and the key of the items in the answer of botocore."""


def _take_items(
    operation_model: Any, response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    """Read key and etag of the items of a listing, and remove them from the document that botocore parses: its parser
    reads every field, which takes most of the time of a long listing.
    """
    from defusedxml import ElementTree

    if response_dict["status_code"] != HTTPStatus.OK:
        return
    try:
        tree = ElementTree.fromstring(response_dict["body"])
    except ElementTree.ParseError:
        return  # botocore reports it
    element, answer = _LISTED[operation_model.name]
    namespace = "".join(tree.tag.rpartition("}")[:2])
    items = tree.findall(f"{namespace}{element}")
    customized_response_dict[answer] = [
        {name: item.findtext(f"{namespace}{name}") for name in ("Key", "ETag")} for item in items
    ]
    for item in items:
        tree.remove(item)
    response_dict["body"] = ElementTree.tostring(tree)


def _attempts() -> int:
    """Attempts of one request: 4 take some seconds; a task of a cluster sets AWS_MAX_ATTEMPTS higher.

    Raises OperationalError: the variable is no whole number above 0.
    """
    text = os.environ.get("AWS_MAX_ATTEMPTS") or "4"
    if not re.fullmatch(r"[1-9]\d{0,3}", text):
        raise OperationalError(f"{text!r} is no number of attempts", "AWS_MAX_ATTEMPTS", "write a whole number from 1")
    return int(text)


def longest_wait() -> float:
    """Seconds after which a request without a response fails: the sum of all attempts and the pauses between them."""
    attempts = _attempts()
    pauses = sum(min(2.0**number, _LONGEST_PAUSE_SECONDS) for number in range(attempts - 1))
    return attempts * (_CONNECT_SECONDS + _SILENT_SECONDS) + pauses


@contextlib.contextmanager
def service(location: str, *, many: bool = False) -> Iterator[None]:
    """Translate errors of S3 and its client into an MctiError with address and hint; log long waits.

    many    the body sends several requests, or transfers an object of any size: it may take longer than one request

    Raises NoCredentials, NotFound, Conflict; OperationalError when keys are refused, or S3 does not respond.
    """
    from botocore import exceptions

    longest = longest_wait()
    # Without the key of the object, which may contain a patient's id.
    server = urlsplit(os.environ.get("AWS_ENDPOINT_URL_S3", "")).netloc.rpartition("@")[2] or "AWS"
    try:
        with log_while_waiting(
            f"S3 ({server}), bucket {split_address(location)[0]}", _MANY_REQUESTS.format(longest) if many else longest
        ):
            yield
    except exceptions.ClientError as error:
        raise _refusal(error.response.get("Error", {}).get("Code", ""), location) from error
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.ProfileNotFound) as error:
        raise NoCredentials("no S3 credentials", location, _keys_hint()) from error
    except exceptions.BotoCoreError as error:
        what = f"S3 does not answer ({type(error).__name__})"
        raise OperationalError(what, location, service_hint("AWS_ENDPOINT_URL_S3")) from error


def _refusal(code: str, location: str) -> MctiError:
    if code in {"NoSuchKey", "404", "NoSuchBucket"}:
        return NotFound("no such object", location, "check the address")
    if code in {"PreconditionFailed", "412", "ConditionalRequestConflict"}:
        conflict = ConcurrentWrite if code == "ConditionalRequestConflict" else Conflict
        return conflict("another process wrote first", location, "read again and retry")
    if code in {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403"}:
        hint = f"check {_source_of_keys()} and their rights"
        return OperationalError(f"S3 refused the credentials ({code})", location, hint)
    hints = {
        "RequestTimeTooSkewed": "correct the clock of this machine",
        "InternalError": "see the log of the service (of mcti stack: .stack/logs); its disk may be full",
    }
    return OperationalError(f"S3 answered {code}", location, hints.get(code, "see the log of the service"))


def _keys_hint() -> str:
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "check the Secret mcti-s3 of this namespace and cluster.secrets"
    return "start the stack (mcti stack up) or set AWS_PROFILE"


def _source_of_keys() -> str:
    """Where the keys come from, as text; never the keys."""
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    file = os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
    return f"the keys of profile {os.environ.get('AWS_PROFILE') or 'default'} in {file}"


def range_reader(location: str) -> tuple[Callable[[int, int], bytes], int]:
    """A function from (offset, size) to bytes of one object, and the object's size: a header without the rest.

    Raises DataError: there is no such object.
    """
    bucket, key = split_address(location)
    with service(location):
        head = client().head_object(Bucket=bucket, Key=key)
    length, etag = int(head["ContentLength"]), head["ETag"]

    def pread(offset: int, count: int) -> bytes:
        end = min(offset + count, length)
        if end <= offset:
            return b""
        # IfMatch: an object that changes between two reads would give a mixture.
        span = {"Range": f"bytes={offset}-{end - 1}", "IfMatch": etag}
        with service(location):
            return bytes(client().get_object(Bucket=bucket, Key=key, **span)["Body"].read())

    return pread, length


def stream(location: str) -> io.BufferedReader:
    """An object as a file that can be read and sought: only the parts that are read are fetched."""
    return io.BufferedReader(_ObjectReader(location), 64 << 10)


class _ObjectReader(io.RawIOBase):
    def __init__(self, location: str) -> None:
        self._pread, self._length = range_reader(location)
        self.name = location  # as of a file: pydicom reads it
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
