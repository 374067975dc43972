"""Progress on stderr: a bar with rate and remaining time on a terminal, log lines elsewhere."""

import sys
from typing import Any

from mcti.progress import ProgressLog, RateEstimator, format_duration, format_rate


class ProgressDisplay:
    """A mcti.progress.Progress that draws a bar on a terminal and logs lines elsewhere."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._pace, self._unit = RateEstimator(), ""
        self._lines = ProgressLog()

    def __call__(self, done: float, total: float, unit: str, detail: str = "", restored: float = 0, /) -> None:
        """Show that `done` of `total` items are finished."""
        if sys.stderr.isatty():
            self._on_terminal(done, total, unit, detail, restored)
        else:
            self._lines(done, total, unit, detail, restored)

    def close(self) -> None:
        """Remove the bar; a later call opens a new one."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None

    def _on_terminal(self, done: float, total: float, unit: str, detail: str, restored: float) -> None:
        if self._bar is None:
            self._bar = _bar()
            self._bar.start()
            self._task = self._bar.add_task("", total=total, rate="", left="")
        if unit != self._unit:
            self._pace, self._unit = RateEstimator(), unit
        self._pace.update(done, restored)
        left = self._pace.seconds_left(done, total)
        self._bar.update(
            self._task,
            completed=int(done),
            total=int(total),
            description=f"{detail}, {unit}" if detail else unit,
            rate=format_rate(self._pace.rate, unit),
            left="" if left is None else f"{format_duration(left)} left",
        )


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
        transient=True,
    )
