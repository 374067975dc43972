"""Packs of ledger entries: copies of 500 entries in one object each, so that a long ledger is read with few requests.

The objects of the entries remain the ledger. A copy is used only if its MD5 is the etag that S3 lists for the object
of the entry, which is the MD5 of its bytes; otherwise that object is read. So an altered, old or missing pack makes
reading slower and changes nothing else. In a bucket whose etags are no MD5s (encrypted with a key of a KMS), no copy
is used. Every entry is verified from its bytes, wherever they were read.
"""

import hashlib
import logging
from collections.abc import Callable

from mcti import s3, storage
from mcti.errors import OperationalError

SIZE = 500
"""Entries of a pack."""
_SEPARATOR = b"\0"  # in no JSON document
_log = logging.getLogger(__name__)


def read(folder: str) -> dict[str, bytes]:
    """The bytes of every object below the folder of a ledger, by address, in order.

    Raises OperationalError when S3 is unavailable.
    """
    etags = s3.etags(folder)
    copies = _copies(folder) if len(etags) >= SIZE else {}
    return {address: copies.get(etags[address]) or storage.read_bytes(address) for address in sorted(etags)}


def store(folder: str, count: int, body: Callable[[int], bytes]) -> None:
    """Write the packs that are missing; a failure is logged only, since the next call writes them.

    count  of the entries;  body: the bytes of the entry at a position from 0
    """
    ends = range(SIZE, count + 1, SIZE)
    if not ends:
        return
    try:
        existing = set(s3.addresses(_folder(folder)))
        for end in ends:
            address = f"{_folder(folder)}{end:08d}.pack"
            if address not in existing:
                s3.put(address, _SEPARATOR.join(body(position) for position in range(end - SIZE, end)))
    except OperationalError as error:
        _log.warning("entries of the ledger were not packed: %s", error)


def _copies(folder: str) -> dict[str, bytes]:
    """The entries of all packs by their MD5."""
    bodies = (
        body for address in s3.addresses(_folder(folder)) for body in storage.read_bytes(address).split(_SEPARATOR)
    )
    return {hashlib.md5(body, usedforsecurity=False).hexdigest(): body for body in bodies}


def _folder(folder: str) -> str:
    """No model has a colon in its name: MLflow refuses it. So the folder is that of no ledger."""
    return f"{folder.rstrip('/')}:packs/"
