"""A trace of a few training steps, for chrome://tracing or https://ui.perfetto.dev."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from mcti import storage

_STEPS = 5
"""Number of traced steps; a trace of a whole run would have gigabytes."""


@contextmanager
def traced(out: Path | None) -> Iterator[Callable[[], None]]:
    """Trace the steps 2 to 6 of the body, which calls the yielded function after each step; None: no trace.

    The first step is excluded: it contains allocations and kernel choices that happen once. Writes `out` (JSON) after
    the traced steps, or at the end of the body.
    """
    if out is None:
        yield lambda: None
        return
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    profiler, done = torch.profiler.profile(activities=activities), 0

    def finish() -> None:
        profiler.stop()
        with storage.replacing(out) as draft:
            profiler.export_chrome_trace(str(draft))

    def after_step() -> None:
        nonlocal done
        done += 1
        if done == 1:
            profiler.start()
        elif done == 1 + _STEPS:
            finish()

    yield after_step
    if 1 <= done < 1 + _STEPS:
        finish()
