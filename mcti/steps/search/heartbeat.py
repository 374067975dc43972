"""The pulse of a long run: a file that grows no older than half a minute while it lives, and lines for people."""

import threading
import time
from types import TracebackType
from typing import Self

from mcti import storage
from mcti.progress import Progress
from mcti.storage import Location

EVERY_SECONDS = 15.0


class Heartbeat:
    """Counts slides and tiles; writes `file` (JSON) at the start and every 15 s, and takes it away at the end.

    A supervisor that finds the file older than a minute knows that the run was killed; one whose `tiles` and `done`
    stand still knows that it hangs, and over which slides.
    """

    def __init__(self, file: Location, total: int, progress: Progress | None = None) -> None:
        self._file, self._total, self._progress = file, total, progress
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._done = self._restored = self._tiles = 0
        self._working: list[str] = []
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._write()
        if self._progress is not None:
            self._progress(0, self._total, "slides")  # from here on the rate is measured
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        storage.remove(self._file)

    def start(self, slide_id: str) -> None:
        """A slide is taken up."""
        with self._lock:
            self._working.append(slide_id)

    def tick(self, tiles: int) -> None:
        """Some tiles are done."""
        with self._lock:
            self._tiles += tiles

    def finish(self, slide_id: str, status: str, *, fresh: bool = True) -> None:
        """A slide is done with; `fresh`: this run worked on it, its features did not lie there already."""
        with self._lock:
            self._done += 1
            self._restored += not fresh
            self._working.remove(slide_id)
        self._tell(f"last {slide_id} {status}")

    def _tell(self, last: str) -> None:
        if self._progress is not None:
            rate = self._tiles / max(time.monotonic() - self._started, 1e-3)
            detail = f"{self._tiles} tiles ({rate:.0f}/s), {last}"
            self._progress(self._done, self._total, "slides", detail, self._restored)

    def _beat(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            self._write()
            if self._working:
                self._tell(f"at {self._working[0]}")

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
