"""A status file for a running extraction, renewed at intervals, and its progress reports."""

import contextlib
import threading
import time
from types import TracebackType
from typing import Self

from mcti import storage
from mcti.progress import Progress
from mcti.storage import Location
from mcti.waiting import call_periodically

EVERY_SECONDS = 15.0


class Heartbeat:
    """Counts slides and tiles; writes `file` (JSON) at the start and every 15 s, and deletes it at the end.

    For a supervisor: a file older than a minute means that the process was killed; constant `tiles` and `done` mean
    that it hangs, and `working` lists the slides concerned.
    """

    def __init__(self, file: Location, total: int, progress: Progress | None = None) -> None:
        self._file, self._total, self._progress = file, total, progress
        self._lock, self._repetition = threading.Lock(), contextlib.ExitStack()
        self._done = self._restored = self._tiles = 0
        self._working: list[str] = []
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        self._write()
        if self._progress is not None:
            self._progress(0, self._total, "slides")  # starts the measurement of the rate
        self._repetition.enter_context(call_periodically(self._renew, EVERY_SECONDS))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._repetition.close()
        storage.remove(self._file)

    def start(self, slide_id: str) -> None:
        """Report that work on a slide begins."""
        with self._lock:
            self._working.append(slide_id)

    def add_tiles(self, tiles: int) -> None:
        """Report that `tiles` more tiles are finished."""
        with self._lock:
            self._tiles += tiles

    def finish(self, slide_id: str, status: str, *, processed: bool = True) -> None:
        """Report that a slide is finished; `processed` is False when its features existed before this run."""
        with self._lock:
            self._done += 1
            self._restored += not processed
            self._working.remove(slide_id)
        self._report(f"last {slide_id} {status}")

    def _report(self, last: str) -> None:
        if self._progress is not None:
            rate = self._tiles / max(time.monotonic() - self._started, 1e-3)
            detail = f"{self._tiles} tiles ({rate:.0f}/s), {last}"
            self._progress(self._done, self._total, "slides", detail, self._restored)

    def _renew(self) -> None:
        self._write()
        if self._working:
            self._report(f"at {self._working[0]}")

    def _write(self) -> None:
        with self._lock:
            state = {
                "done": self._done,
                "slides": self._total,
                "tiles": self._tiles,
                "working": sorted(self._working),
                "seconds": round(time.monotonic() - self._started),
            }
        storage.write_json(self._file, state)
