"""Lines about a wait for a service: what for, for how long already, and when it ends.

A person who sees nothing cannot tell a wait from a hang, and libraries that repeat a request do so without a word.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Iterator

LINE_EVERY_SECONDS = 30.0
"""Below the minute after which somebody asks whether anything still happens."""

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def announced(subject: str, ends: float | str) -> Iterator[None]:
    """Log a line every half minute while the body waits for `subject`; none when it is done sooner.

    ends    seconds after which the wait ends by itself, or a sentence about what ends it
    The lines are warnings: without a log they go to standard error as they are.
    """
    started, over = time.monotonic(), threading.Event()

    def report() -> None:
        while not over.wait(LINE_EVERY_SECONDS):
            waited = time.monotonic() - started
            _log.warning("waiting for %s: %.0f s so far, %s", subject, waited, _remaining(ends, waited))

    thread = threading.Thread(target=report, name="mcti-waiting", daemon=True)
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
