"""Memory of a batch, kept for the next batch instead of being given back to the system in between."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

MMAP_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = -4, -3, -1
"""Of glibc's ``mallopt``: how many blocks may be mapped one by one, from which size on, and the free bytes that are
given back at once."""

KEPT = {MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1}

AFTERWARDS = {MMAP_MAX: 65536, MMAP_THRESHOLD: 32 * 1024**2, TRIM_THRESHOLD: 64 * 1024**2}
"""The values that glibc adapts to once large blocks were freed; it no longer adapts once one is set."""

OWN = ("MALLOC_", "GLIBC_TUNABLES")
"""Environment variables by which a user controls how memory is handled."""


@contextmanager
def malloc_keeps_pages() -> Iterator[None]:
    """Keep memory that is freed for what is asked for next; at the end all that is free goes back to the system.

    glibc maps each block of more than 32 MB, such as the activations of a convolution, anew from the system and gives
    it back once it is freed. The system clears every page of it first, a fifth of a training step and two fifths of an
    evaluation. Other libraries of C have no such switch; there nothing changes, nor where the user's environment has
    settings of its own. Not to be nested: the inner end is the end.
    """
    is_set = any(name.startswith(OWN) for name in os.environ)
    library = ctypes.CDLL(None) if sys.platform.startswith("linux") and not is_set else None
    if library is None or not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        yield
        return
    _set(library, KEPT)
    try:
        yield
    finally:
        _set(library, AFTERWARDS)
        library.malloc_trim(0)


def _set(library: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        library.mallopt(option, value)
