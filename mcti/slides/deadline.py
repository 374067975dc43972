"""A slide in work, watched: its time limit, whether the run was called off, how many tiles are done."""

import threading
import time
from collections.abc import Callable

from mcti.slides.decoding import Pixels
from mcti.slides.reader import Level, Reader
from mcti.slides.status import SlideError, Status


class Watch:
    """Asked before every region that is read, so that neither limit nor Ctrl-C waits for the end of a huge slide."""

    def __init__(
        self, minutes: float = 0.0, stop: threading.Event | None = None, tick: Callable[[int], None] = lambda _: None
    ) -> None:
        self._minutes, self._stop, self.tick = minutes, stop, tick
        self._end = time.monotonic() + 60 * minutes if minutes else float("inf")

    def look(self) -> None:
        """Go on, or not.

        Raises
            SlideError: TIMED_OUT past the limit (minutes; 0: none). KeyboardInterrupt: the run was called off.
        """
        if self._stop is not None and self._stop.is_set():
            raise KeyboardInterrupt
        if time.monotonic() > self._end:
            hint = "raise extract.slide_minutes"
            raise SlideError(Status.TIMED_OUT, f"not done after {self._minutes:g} min", hint)


class Watched:
    """A reader that looks at the watch before it reads."""

    def __init__(self, reader: Reader, watch: Watch) -> None:
        self._reader, self._watch = reader, watch
        self.name, self.levels = reader.name, reader.levels

    name: str
    levels: list[Level]

    def read(self, level: int, x: int, y: int, width: int, height: int, shrink: int = 1) -> Pixels:
        """See Reader."""
        self._watch.look()
        return self._reader.read(level, x, y, width, height, shrink)

    def close(self) -> None:
        """Give the file back."""
        self._reader.close()
