"""The memory of freed tensors stays with the process while it trains, where the C library is glibc."""

import contextlib
import ctypes
import sys
from collections.abc import Iterator

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""Numbers of the parameters in malloc.h."""
_ADAPTED = ((_MMAP_THRESHOLD, 32 * 2**20), (_TRIM_THRESHOLD, 64 * 2**20), (_MMAP_MAX, 65536))
"""The values to which glibc adapts these parameters in a process with large tensors; it stops when one is set."""


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Run the body without giving the memory of freed tensors back to the system; give it back at the end.

    By default glibc maps large tensors one by one and unmaps them when they are freed, so that the system fills the
    pages of each step with zeros again: a third of a bf16 step of the preset `paper` (docs/model.md, "Cost"). No effect
    without glibc.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is None or not hasattr(library, "malloc_trim"):  # musl has neither
        yield
        return
    library.mallopt(_MMAP_MAX, 0)  # no tensor has a mapping of its own
    library.mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        for name, value in _ADAPTED:
            library.mallopt(name, value)
        library.malloc_trim(0)
