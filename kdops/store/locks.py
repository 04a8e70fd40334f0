"""Studies that want the same models at the same time take turns: what the first one makes, the others find."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

from filelock import FileLock, Timeout

from kdops.store.database import store_path

__all__ = ["FOLDER", "exclusive"]

FOLDER = "kdops-turns"
"""The folder beside the store with the locks."""

PLACES = 5
"""So many digits of a digest name a lock: few enough for a folder, since its file stays, and enough for one's own."""

SOON_SECONDS = 3.0
POLL_SECONDS = 0.5

logger = logging.getLogger(__name__)


@contextmanager
def exclusive(claims: Iterable[str], say: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other process of this machine holds one of the claims in this store, and hold them all.

    Who is killed holds nothing any more. Where no lock can be made nobody waits: then two studies may make the same
    models twice, each whole.

    Args:
        claims: digests.
        say: told once where it takes longer.
    """
    with ExitStack() as held:
        # All take them in one order, so that no two wait for each other.
        for place in sorted({claim[:PLACES] for claim in claims}):
            try:
                path = store_path(FOLDER) / f"{place}.lock"
                path.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(_waited(FileLock(path, poll_interval=POLL_SECONDS), say))
            except (OSError, NotImplementedError) as error:
                logger.debug("no turn is taken: %s", error)
        yield


@contextmanager
def _waited(lock: FileLock, say: Callable[[str], None]) -> Iterator[None]:
    try:
        lock.acquire(timeout=SOON_SECONDS)
    except Timeout:
        say("another study makes the same models; this one waits for them")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
