"""The memory of freed tensors stays with the process while it trains, where the C library is glibc."""

import contextlib
import ctypes
import sys
from collections.abc import Iterator

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Names of the parameters in malloc.h."""


@contextlib.contextmanager
def kept_memory() -> Iterator[None]:
    """Run the body without giving the memory of freed tensors back to the system; give it back at the end.

    By default glibc maps large tensors one by one and unmaps them when they are freed, so that the system fills the
    pages of each step with zeros again: a third of a bf16 step of the preset `paper` (docs/model.md, "Cost"). The
    parameters stay set in this process, since glibc has no way to read the former ones. No effect without glibc.
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
        library.malloc_trim(0)
