"""Python's collector of garbage, kept still while large libraries are imported."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["gc_paused"]


@contextmanager
def gc_paused(freeze: bool = False) -> Iterator[None]:
    """Keep the collector still for a while.

    An import makes hundreds of thousands of objects that stay until the process ends. The collector looks through all
    of them again and again as their number grows: a fifth of the time that MLflow takes to be imported. Where it was
    off already, it stays off.

    Args:
        freeze: let it never look at what is there by then: for imports at the start of a process alone.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if freeze:
            gc.freeze()
        if was_on:
            gc.enable()
