"""Progress for people: a bar with rate and time left on a terminal, a line now and then elsewhere, always on stderr."""

import os
import sys
import time
from typing import Any

_LINE_EVERY_SECONDS = 10.0


def speaks() -> bool:
    """Whether this process tells progress and result: of those that torchrun starts, the first alone."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


class Progress:
    """Callable with (done, total, text); steps call it, and know nothing of terminals."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._started = self._last_line = time.monotonic()

    def __call__(self, done: int, total: int, text: str = "") -> None:
        """Show that `done` of `total` are finished; `text` says of what."""
        if not speaks():
            return
        if sys.stderr.isatty():
            self._on_terminal(done, total, text)
        else:
            self._as_line(done, total, text)

    def close(self) -> None:
        """Take the bar away; a later call opens a new one."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None

    def _on_terminal(self, done: int, total: int, text: str) -> None:
        if self._bar is None:
            self._bar = _bar()
            self._bar.start()
            self._task = self._bar.add_task(text, total=total)
        self._bar.update(self._task, completed=done, total=total, description=text, rate=self._rate(done))

    def _as_line(self, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        if done >= total or now - self._last_line >= _LINE_EVERY_SECONDS:
            self._last_line = now
            left = (total - done) / max(done, 1) * (now - self._started)
            print(f"{text} {done}/{total}  {self._rate(done)}  {left:.0f} s left", file=sys.stderr, flush=True)  # noqa: T201

    def _rate(self, done: int) -> str:
        return f"{done / max(time.monotonic() - self._started, 1e-3):.1f}/s"


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
