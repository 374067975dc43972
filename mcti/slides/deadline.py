"""The time limit of one slide, and the cancellation of the run, checked before each region that is read."""

import threading
import time

from mcti.slides.decoding import Pixels
from mcti.slides.reader import Level, Reader
from mcti.slides.status import SlideError, Status


class Deadline:
    """Time limit of a slide in minutes (0: none), and the event that cancels the whole run."""

    def __init__(self, minutes: float = 0.0, cancelled: threading.Event | None = None) -> None:
        self._minutes, self._cancelled = minutes, cancelled
        self._end = time.monotonic() + 60 * minutes if minutes else float("inf")

    def check(self) -> None:
        """Return when work may continue.

        Raises SlideError (TIMED_OUT) after the time limit.
        Raises KeyboardInterrupt after the run was cancelled.
        """
        if self._cancelled is not None and self._cancelled.is_set():
            raise KeyboardInterrupt
        if time.monotonic() > self._end:
            hint = "raise extract.slide_minutes"
            raise SlideError(Status.TIMED_OUT, f"not finished after {self._minutes:g} min", hint)


class DeadlineReader:
    """A reader that checks a deadline before each region: neither the limit nor Ctrl-C waits for a large slide."""

    name: str
    levels: list[Level]

    def __init__(self, reader: Reader, deadline: Deadline) -> None:
        self._reader, self._deadline = reader, deadline
        self.name, self.levels = reader.name, reader.levels

    def read(
        self,
        level: int,
        x: int,
        y: int,
        width: int,
        height: int,
        shrink: int = 1,
        *,
        keep: bool = False,
        buffer: Pixels | None = None,
    ) -> Pixels:
        """See Reader."""
        self._deadline.check()
        return self._reader.read(level, x, y, width, height, shrink, keep=keep, buffer=buffer)

    def close(self) -> None:
        """Close the underlying reader."""
        self._reader.close()
