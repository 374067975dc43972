"""One retraining at a time: a lease on a model, an object in S3 that only one writer can create."""

import contextlib
import time

from pydantic import BaseModel, ConfigDict, ValidationError

from mcti import s3, storage
from mcti.errors import DataError

ATTEMPTS = 5
"""A concurrent run, or a manual deletion of the object, may interfere between a read and a write."""


class Lease(BaseModel):
    """The run that holds a model, and since when (seconds since 1970); `holder` "" means that the lease is free."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    holder: str
    since: float

    def is_free_for(self, holder: str, hours: float) -> bool:
        """Whether `holder` may acquire it: no holder, the same holder, or an age above `hours` (unit: hours)."""
        return self.holder in ("", holder) or time.time() - self.since > hours * 3600


def acquire(address: str, holder: str, hours: float) -> Lease:
    """Acquire the lease at `address` unless another run holds it; return its state afterwards.

    A retried task acquires its own lease again. A lease with an age above `hours` (unit: hours) belongs to a killed
    run and is replaced.

    Raises
    s3.Conflict when other writers changed the object at each attempt.
    DataError when the object is not a lease.
    """
    for _ in range(ATTEMPTS - 1):
        with contextlib.suppress(s3.Conflict):
            return _attempt(address, holder, hours)
    return _attempt(address, holder, hours)


def _attempt(address: str, holder: str, hours: float) -> Lease:
    """One attempt; `s3.Conflict` where the object was changed or deleted meanwhile."""
    own_lease = Lease(holder=holder, since=time.time())
    current, etag = _find(address)
    if current is None:
        _put(address, own_lease, only_if_absent=True)
    elif current.is_free_for(holder, hours):
        _put(address, own_lease, only_if_etag=etag)
    else:
        return current
    return own_lease


def release(address: str, holder: str) -> bool:
    """Release the lease of `holder`; False when another run holds it, or it is free."""
    try:
        current, etag = _find(address)
    except DataError:
        return False
    if current is None or current.holder != holder:
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
        raise DataError("not a lease", address, "delete the object while no retraining is running") from error
