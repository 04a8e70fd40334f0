"""Memory of a training step, kept for the next step instead of being given back to the system in between."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["memory_kept"]

MMAP_MAX, TRIM_THRESHOLD = -4, -1
"""Of glibc's ``mallopt``: how many blocks may be mapped one by one, and the free bytes that are given back at once."""

BY_DEFAULT = {MMAP_MAX: 65536, TRIM_THRESHOLD: 128 * 1024}
KEPT = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1}


@contextmanager
def memory_kept() -> Iterator[None]:
    """Keep memory that is freed for what is asked for next; at the end all that is free goes back to the system.

    glibc maps each block of more than 32 MB, such as the activations of a convolution, anew from the system and gives
    it back once it is freed. The system clears every page of it first, a fifth of a step. Other libraries of C have
    no such switch; there nothing changes.
    """
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
    if library is None or not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        yield
        return
    _set(library, KEPT)
    try:
        yield
    finally:
        _set(library, BY_DEFAULT)
        library.malloc_trim(0)


def _set(library: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        library.mallopt(option, value)
