"""Progress of a long step: rate, remaining time, and log lines at an interval."""

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

LOG_INTERVAL_SECONDS = 30.0
FIRST_LOG_SECONDS = 5.0
_WINDOW_SECONDS = 60.0
_WINDOW_ITEMS = 16
_SAMPLE_SECONDS = 0.5
_LEAST_SECONDS = 2.0
"""A rate over a shorter span is unreliable: workers that start together report their first items at the same time."""

_log = logging.getLogger(__name__)


class Progress(Protocol):
    """The callable to which a step reports its progress."""

    def __call__(self, done: float, total: float, unit: str, detail: str = "", restored: float = 0, /) -> None:
        """`done` of `total` items are finished.

        unit        what is counted, e.g. "steps"
        detail      further text, e.g. "loss 0.52"
        restored    how many of `done` were restored from a checkpoint, a study or a folder
        """


class RateEstimator:
    """Rate (items per second) over the last minute, and the remaining time at this rate.

    The measurement starts at the first update, so it excludes earlier work (imports, compilation, loading) and restored
    items. There is no rate before two seconds have passed and one item is finished. For long items the minute is
    extended to the last 16 items, since parallel workers finish in bursts.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, float]] = deque()  # (time, items finished by this process until then)
        self._now = self._processed = 0.0

    def update(self, done: float, restored: float = 0) -> None:
        """Record that `done` items are finished, `restored` of them not by this process; unit: items."""
        self._now, self._processed = self._clock(), done - restored
        if self._samples and self._processed < self._samples[-1][1]:
            self._samples.clear()  # another sequence has begun
        if self._samples:
            at, processed = self._samples[-1]
            if self._processed == processed or self._now - at < _SAMPLE_SECONDS:
                return
        self._samples.append((self._now, self._processed))
        while len(self._samples) > 2 and self._is_spare(*self._samples[1]):
            self._samples.popleft()

    @property
    def rate(self) -> float | None:
        """Items per second; None: no estimate yet."""
        if not self._samples:
            return None
        span, processed = self._now - self._samples[0][0], self._processed - self._samples[0][1]
        return processed / span if span >= _LEAST_SECONDS and processed > 0 else None

    def seconds_left(self, done: float, total: float) -> float | None:
        """Remaining time in seconds; None: no estimate yet."""
        return None if self.rate is None else max(0.0, total - done) / self.rate

    def _is_spare(self, at: float, processed: float) -> bool:
        """Whether the window may start at this sample."""
        return at <= self._now - _WINDOW_SECONDS and processed <= self._processed - _WINDOW_ITEMS


class ProgressLog:
    """A Progress that logs a line every half minute, the first after five seconds, and one at the end."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._pace = clock, RateEstimator(clock)
        self._unit: str | None = None
        self._next, self._ended = 0.0, False

    def __call__(self, done: float, total: float, unit: str, detail: str = "", restored: float = 0) -> None:
        """See Progress."""
        if unit != self._unit or (self._ended and done < total):
            self._start(unit)
        self._pace.update(done, restored)
        now = self._clock()
        if done >= total:
            if not self._ended:
                self._ended = True
                _log.info("%s", format_progress(self._pace, done, total, unit, detail))
        elif now >= self._next:
            self._next = now + LOG_INTERVAL_SECONDS
            _log.info("%s", format_progress(self._pace, done, total, unit, detail))

    def _start(self, unit: str) -> None:
        self._unit, self._pace, self._ended = unit, RateEstimator(self._clock), False
        self._next = self._clock() + FIRST_LOG_SECONDS


def format_progress(pace: RateEstimator, done: float, total: float, unit: str, detail: str = "") -> str:
    """Text such as `120 of 400 steps, 3.1 steps/s, 1 min 30 s left, loss 0.52`; unknown parts are omitted.

    done, total  counts of `unit`
    """
    left = pace.seconds_left(done, total) if done < total else None
    parts = [f"{int(done)} of {int(total)} {unit}", format_rate(pace.rate, unit)]
    parts += [f"{format_duration(left)} left" if left is not None else "", detail]
    return ", ".join(part for part in parts if part)


def format_rate(rate: float | None, unit: str) -> str:
    """`3.1 steps/s`; a slow rate per minute or per hour; empty without a rate."""
    if rate is None:
        return ""
    seconds, per = next((s, p) for s, p in ((1, "s"), (60, "min"), (3600, "h")) if rate * s >= 1 or p == "h")
    noun = "" if " " in unit else f" {unit}"
    return f"{rate * seconds:.3g}{noun}/{per}" if rate * seconds < 1000 else f"{rate * seconds:.0f}{noun}/{per}"


def format_duration(seconds: float) -> str:
    """Seconds as text: `45 s`, `1 min 30 s`, `2 h 5 min`, `3 d 4 h`."""
    whole = round(seconds)
    for large, small, size, part in (("d", "h", 86400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if whole >= size:
            return f"{whole // size} {large} {whole % size // part} {small}"
    return f"{whole} s"
