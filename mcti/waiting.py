"""Lines about a wait for a service: what for, for how long already, and when it ends.

Without a line a wait cannot be distinguished from a hang; libraries repeat requests without a message.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

LOG_INTERVAL_SECONDS = 30.0
"""Below a minute, so that a wait is reported early."""

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def log_while_waiting(subject: str, ends: float | str) -> Iterator[None]:
    """Log a line every half minute while the body waits for `subject`; none when it is done sooner.

    ends    seconds after which the wait ends by itself, or a sentence about what ends it
    The lines are warnings: without a log they go to standard error as they are.
    """
    started = time.monotonic()

    def report() -> None:
        waited = time.monotonic() - started
        _log.warning("waiting for %s: %.0f s so far, %s", subject, waited, _remaining(ends, waited))

    with call_periodically(report, LOG_INTERVAL_SECONDS):
        yield


@contextlib.contextmanager
def call_periodically(act: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call `act` every `seconds`, in its own thread, while the body runs; first after one wait."""
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
