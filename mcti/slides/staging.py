"""Slides on S3, one by one on the local disk: a copy while it is in work, within bounds, deleted after use.

All copies of a process lie in one folder that it holds a lock on; a folder whose lock is free belonged to a process
that was killed, and the next process that stages sweeps it away.
"""

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from mcti import storage
from mcti.errors import OperationalError
from mcti.slides import slide_files
from mcti.slides.status import SlideError, Status

_PREFIX = "mcti-slides-"
_MARGIN = 512 << 20  # bytes of the disk that stay free for features, previews and everybody else


class DiskReservations:
    """The bytes that copies may take at once; who does not fit waits for the others."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._used, self._change = folder, 0, threading.Condition()

    @contextlib.contextmanager
    def taken(self, size: int, limit: int, what: str) -> Iterator[None]:
        """Hold `size` bytes of `limit` while the body lasts.

        Raises
            SlideError: the slide is larger than the whole cache. OperationalError: the disk has no room for it,
            though no other copy is left.
        """
        if size > limit:
            reason = f"the slide has {size / 2**30:.1f} GiB, the cache for slides {limit / 2**30:g}"
            raise SlideError(Status.READ_ERROR, reason, "raise extract.cache_gib")
        with self._change:
            self._change.wait_for(lambda: not self._used or (self._used + size <= limit and self._fits(size)))
            if not self._fits(size):
                hint = "free some space, or name another folder in extract.cache"
                raise OperationalError(f"no room for {what} ({size / 2**30:.1f} GiB)", str(self._folder), hint)
            self._used += size
        try:
            yield
        finally:
            with self._change:
                self._used -= size
                self._change.notify_all()

    def _fits(self, size: int) -> bool:
        # What is being downloaded is not on the disk yet, so its bytes count as taken.
        return shutil.disk_usage(self._folder).free >= self._used + size + _MARGIN


@contextlib.contextmanager
def staged(location: str, folder: str | None, limit_gib: float) -> Iterator[Path]:
    """A local copy of the slide at an `s3://` address, in `folder` (default: the system's temporary folder).

    Raises
        DataError: no such object. SlideError, OperationalError: see Room.
    """
    with storage.translating_os_errors(folder):
        own, room = _own(str(Path(folder or tempfile.gettempdir()).resolve()), os.getpid())
        place = Path(tempfile.mkdtemp(dir=own))
    try:
        parts = _parts(location)
        with room.taken(sum(storage.size(part) for part in parts), int(limit_gib * 2**30), location):
            try:
                for part in parts:
                    with storage.translating_os_errors(place):
                        storage.download(part, place)
                yield place / location.rstrip("/").rpartition("/")[2]
            finally:
                shutil.rmtree(place, ignore_errors=True)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _parts(location: str) -> list[str]:
    """The addresses that make up a slide: its files, and the folder that MIRAX keeps beside its own."""
    stem, dot, ending = location.rpartition(".")
    if f".{ending.lower()}" != ".mrxs" or not dot:
        return slide_files.members(location)
    return [location, stem + "/"] if storage.exists(stem + "/") else [location]


@cache
def _own(folder: str, process: int) -> tuple[Path, DiskReservations]:  # noqa: ARG001 (a forked child makes its own)
    """This process's folder below `folder`, locked as long as it lives, and its room; others' leftovers are swept."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for old in Path(folder).glob(_PREFIX + "*"):
        _sweep(old)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    _LOCKS.append(_locked(new))
    own = new.rename(new.with_name(_PREFIX + new.name.removeprefix(".new-")))  # swept by nobody: the lock comes first
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own, DiskReservations(own)


_LOCKS: list[int | None] = []
"""Open descriptors: closing one gives its lock back."""


def _locked(folder: Path) -> int | None:
    """The lock of a folder, or None when another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _sweep(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another user's, or swept by another process at this moment
        if (lock := _locked(folder)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
