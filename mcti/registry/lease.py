"""One retraining at a time: a lease on a model, an object in S3 that only one writer can make."""

import time

from pydantic import BaseModel, ConfigDict, ValidationError

from mcti import s3, storage
from mcti.errors import DataError


class Lease(BaseModel):
    """Who holds a model, and since when (seconds since 1970); `holder` "" means nobody does."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    holder: str
    since: float

    def is_free_for(self, holder: str, hours: float) -> bool:
        """Whether `holder` may take it: nobody has it, or they do already, or it was left behind hours ago."""
        return self.holder in ("", holder) or time.time() - self.since > hours * 3600


def take(address: str, holder: str, hours: float) -> Lease:
    """Take the lease at `address`, or see who has it: the lease as it stands afterwards.

    A task that is tried again gets its own lease back; one that is older than `hours` was left by a killed run.
    """
    mine = Lease(holder=holder, since=time.time())
    try:
        _put(address, mine, only_if_absent=True)
    except s3.Conflict:
        found, etag = _read(address)
        if not found.is_free_for(holder, hours):
            return found
        try:
            _put(address, mine, only_if_etag=etag)
        except s3.Conflict:  # somebody else was faster at the same moment, or our own put arrived twice
            return _read(address)[0]
    return mine


def give_back(address: str, holder: str) -> bool:
    """End our own lease; False when somebody else has it, or nobody."""
    try:
        found, etag = _read(address)
    except DataError:
        return False
    if found.holder != holder:
        return False
    try:
        _put(address, Lease(holder="", since=time.time()), only_if_etag=etag)
    except s3.Conflict:
        return False
    return True


def _put(address: str, lease: Lease, *, only_if_absent: bool = False, only_if_etag: str = "") -> None:
    body = storage.to_json(lease.model_dump()).encode()
    s3.put(address, body, only_if_absent=only_if_absent, only_if_etag=only_if_etag)


def _read(address: str) -> tuple[Lease, str]:
    body, etag = s3.get(address)
    try:
        return Lease.model_validate_json(body), etag
    except ValidationError as error:
        raise DataError("not a lease", address, "delete the object when no retraining runs") from error
