"""Waiting for another process: until its files exist, or it ends, or for a long time."""

import contextlib
import subprocess
import time
from pathlib import Path
from typing import Any

LIMIT_SECONDS = 900  # a process that imports torch takes minutes to its first file on a loaded machine
LIMIT_MS = 1000 * LIMIT_SECONDS  # of the start of a browser and of each wait in it; the default is 30 s


def files(folder: Path, pattern: str) -> set[Path]:
    """The files below `folder` that match now; repeated where a folder was deleted during the search."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            return set(folder.glob(pattern))


def wait_for_file(folder: Path, pattern: str, process: "subprocess.Popen[Any]", count: int = 1) -> None:
    """Wait until `process` has written `count` files below `folder` that did not exist before.

    Raises AssertionError when the process has ended, or after LIMIT_SECONDS.
    """
    before, end = files(folder, pattern), time.monotonic() + LIMIT_SECONDS
    while len(files(folder, pattern) - before) < count:
        assert process.poll() is None, f"the process ended before it wrote {pattern}"
        assert time.monotonic() < end, f"no {pattern} after {LIMIT_SECONDS} s"
        time.sleep(0.01)
