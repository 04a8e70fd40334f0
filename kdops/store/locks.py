"""Locks beside the store: studies that want the same models at the same time take turns.

What the first one makes, the others find.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kdops.store.database import store_path

FOLDER = "kdops-turns"
"""The folder beside the store with the locks."""

PLACES = 5
"""Number of digits of a digest that name a lock: its file stays in the folder, so there must not be too many."""

SOON_SECONDS = 3.0
POLL_SECONDS = 0.5

logger = logging.getLogger(__name__)


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Wait until no other process of this machine holds a lock of this store, and hold it.

    Args:
        name: of the lock, as a file is named.
    """
    with FileLock(_lock_path(name)):
        yield


@contextmanager
def exclusive(keys: Iterable[str], report: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other process of this machine holds one of the keys in this store, and hold them all.

    A killed process releases its locks. Where no lock can be made none is waited for: then two studies may make the
    same models twice, each whole.

    Args:
        keys: digests.
        report: called once with a line where it takes longer.
    """
    with ExitStack() as held:
        # All take them in one order, so that no two wait for each other.
        for place in sorted({key[:PLACES] for key in keys}):
            try:
                lock = FileLock(_lock_path(place), poll_interval=POLL_SECONDS)
                held.enter_context(_waited(lock, report))
            except (OSError, NotImplementedError) as error:
                logger.debug("nothing is locked: %s", error)
        yield


def _lock_path(name: str) -> Path:
    path = store_path(FOLDER) / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def _waited(lock: FileLock, report: Callable[[str], None]) -> Iterator[None]:
    try:
        lock.acquire(timeout=SOON_SECONDS)
    except Timeout:
        report("another study makes the same models; this one waits for them")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
