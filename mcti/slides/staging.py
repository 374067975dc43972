"""Local copies of slides on S3: limited in total size, deleted after use.

All copies of a process are in one folder that the process has locked. A folder without a lock belonged to a process
that was killed; the next process that makes a copy deletes it.
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
_MARGIN = 512 << 20  # bytes that stay free for features, previews and other processes


class DiskReservations:
    """Reserves disk space for copies; a copy that does not fit waits until another is deleted."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._used, self._change = folder, 0, threading.Condition()

    @contextlib.contextmanager
    def reserve(self, size: int, limit: int, what: str) -> Iterator[None]:
        """Reserve `size` bytes of `limit` during the body; waits for other copies to be deleted.

        Raises SlideError when the slide is larger than the cache.
        Raises OperationalError when the disk has too little free space although no other copy is left.
        """
        if size > limit:
            reason = f"the slide has {size / 2**30:.1f} GiB, the slide cache {limit / 2**30:g} GiB"
            raise SlideError(Status.READ_ERROR, reason, "raise extract.cache_gib")
        with self._change:
            self._change.wait_for(lambda: not self._used or (self._used + size <= limit and self._fits(size)))
            if not self._fits(size):
                hint = "free some disk space, or set extract.cache to another folder"
                raise OperationalError(f"no disk space for {what} ({size / 2**30:.1f} GiB)", str(self._folder), hint)
            self._used += size
        try:
            yield
        finally:
            with self._change:
                self._used -= size
                self._change.notify_all()

    def _fits(self, size: int) -> bool:
        # Bytes that are still being downloaded do not reduce the free space yet.
        return shutil.disk_usage(self._folder).free >= self._used + size + _MARGIN


@contextlib.contextmanager
def staged(location: str, folder: str | None, limit_gib: float) -> Iterator[Path]:
    """A local copy of the slide at an `s3://` address, in `folder` (default: the system's temporary folder).

    limit_gib   largest total size of all copies, GiB
    Raises DataError when the object does not exist.
    Raises SlideError when the slide is larger than the limit.
    Raises OperationalError when the disk has too little free space.
    """
    with storage.translating_os_errors(folder):
        process_folder, reservations = _process_folder(
            str(Path(folder or tempfile.gettempdir()).resolve()), os.getpid()
        )
        copy = Path(tempfile.mkdtemp(dir=process_folder))
    try:
        files = _files(location)
        with reservations.reserve(sum(storage.size(file) for file in files), int(limit_gib * 2**30), location):
            try:
                for file in files:
                    with storage.translating_os_errors(copy):
                        storage.download(file, copy)
                yield copy / location.rstrip("/").rpartition("/")[2]
            finally:
                shutil.rmtree(copy, ignore_errors=True)
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _files(location: str) -> list[str]:
    """The addresses of a slide: its files, and for MIRAX its data folder."""
    stem, dot, ending = location.rpartition(".")
    if f".{ending.lower()}" != ".mrxs" or not dot:
        return slide_files.members(location)
    return [location, stem + "/"] if storage.exists(stem + "/") else [location]


@cache
def _process_folder(folder: str, process: int) -> tuple[Path, DiskReservations]:  # noqa: ARG001 (cache key: fork)
    """The folder of this process, locked until it ends, and its reservations; deletes folders of killed processes."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for old in Path(folder).glob(_PREFIX + "*"):
        _delete_unlocked(old)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    _LOCKS.append(_lock(new))
    # The name changes after the lock, so that no other process deletes the folder.
    process_folder = new.rename(new.with_name(_PREFIX + new.name.removeprefix(".new-")))
    atexit.register(shutil.rmtree, process_folder, ignore_errors=True)
    return process_folder, DiskReservations(process_folder)


_LOCKS: list[int | None] = []
"""Open descriptors: closing one releases its lock."""


def _lock(folder: Path) -> int | None:
    """The descriptor of a new lock on a folder; None when another process has it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _delete_unlocked(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another user's folder, or another process deletes it right now
        if (lock := _lock(folder)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
