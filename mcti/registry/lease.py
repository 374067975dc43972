"""One retraining at a time: a lease on a model, an object in S3 that only one writer can make."""

import contextlib
import time

from pydantic import BaseModel, ConfigDict, ValidationError

from mcti import s3, storage
from mcti.errors import DataError

ATTEMPTS = 5
"""Runs that start at the same moment, or a hand that deletes the object, may come between a read and a write."""


class Lease(BaseModel):
    """Who holds a model, and since when (seconds since 1970); `holder` "" means nobody does."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    holder: str
    since: float

    def is_free_for(self, holder: str, hours: float) -> bool:
        """Whether `holder` may take it: nobody has it, or they do already, or it was left behind hours ago."""
        return self.holder in ("", holder) or time.time() - self.since > hours * 3600


def acquire(address: str, holder: str, hours: float) -> Lease:
    """Take the lease at `address`, or see who has it: the lease as it stands afterwards.

    A task that is tried again gets its own lease back; one that is older than `hours` was left by a killed run.

    Raises
        s3.Conflict: the object was written or deleted by others at each of a few attempts.
    """
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(s3.Conflict):
            return _attempt(address, holder, hours)
    return _attempt(address, holder, hours)


def _attempt(address: str, holder: str, hours: float) -> Lease:
    """One attempt; `s3.Conflict` where the object changed or vanished meanwhile."""
    mine = Lease(holder=holder, since=time.time())
    found, etag = _find(address)
    if found is None:
        _put(address, mine, only_if_absent=True)
    elif found.is_free_for(holder, hours):
        _put(address, mine, only_if_etag=etag)
    else:
        return found
    return mine


def release(address: str, holder: str) -> bool:
    """End our own lease; False when somebody else has it, or nobody."""
    try:
        found, etag = _find(address)
    except DataError:
        return False
    if found is None or found.holder != holder:
        return False
    try:
        _put(address, Lease(holder="", since=time.time()), only_if_etag=etag)
    except s3.Conflict:
        return False
    return True


def _put(address: str, lease: Lease, *, only_if_absent: bool = False, only_if_etag: str = "") -> None:
    body = storage.to_json(lease.model_dump()).encode()
    s3.put(address, body, only_if_absent=only_if_absent, only_if_etag=only_if_etag)


def _find(address: str) -> tuple[Lease | None, str]:
    """The lease and its etag; None where there is no object."""
    try:
        body, etag = s3.get(address)
    except s3.NotFound:
        return None, ""
    try:
        return Lease.model_validate_json(body), etag
    except ValidationError as error:
        raise DataError("not a lease", address, "delete the object when no retraining runs") from error
