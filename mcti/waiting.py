"""Log lines during a wait for a service: its subject, its duration and its end.

Without them a user cannot distinguish a wait from a hang: libraries that repeat a request log nothing.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

LOG_INTERVAL_SECONDS = 30.0
"""Interval of the lines: shorter than a minute, so that a wait is visible early."""

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def log_while_waiting(subject: str, ends: float | str) -> Iterator[None]:
    """Log a line every half minute while the body waits for `subject`; none for a shorter wait.

    ends    seconds after which the wait ends, or a sentence about its end
    The lines are warnings: without a log they are printed to standard error.
    """
    started = time.monotonic()

    def report() -> None:
        waited = time.monotonic() - started
        _log.warning("waiting for %s: %.0f s so far, %s", subject, waited, _remaining(ends, waited))

    with call_periodically(report, LOG_INTERVAL_SECONDS):
        yield


@contextlib.contextmanager
def call_periodically(act: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call `act` at an interval of `seconds` in a separate thread while the body runs; first after one interval."""
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(seconds):
            act()

    thread = threading.Thread(target=repeat, name="mcti-waiting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _remaining(ends: float | str, waited: float) -> str:
    if isinstance(ends, str):
        return ends
    return f"at most {max(ends - waited, 0.0):.0f} s more"
