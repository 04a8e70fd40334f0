"""The heartbeat of a study: the time on its run, renewed while it lives, for those who cannot see its process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

from mlflow import MlflowClient

__all__ = ["BEAT_SECONDS", "EXPIRED_SECONDS", "HEARTBEAT", "Heartbeat", "beat", "expired"]

HEARTBEAT = "kdops.heartbeat"
"""The tag: seconds since the epoch by the clock of the study's host."""

BEAT_SECONDS = 60.0
EXPIRED_SECONDS = 1800.0
"""A study that was silent for so long is gone. A server may be away for ten minutes and more, which a study waits for,
and clocks of two hosts may differ by minutes."""

logger = logging.getLogger(__name__)


class Heartbeat:
    """Renews the heartbeat of a run in the background, until it is stopped or the process ends.

    Args:
        run_id: the run.
        seconds: how often.
    """

    def __init__(self, run_id: str, seconds: float = BEAT_SECONDS):
        self.run_id, self.seconds = run_id, seconds
        self._stopped = threading.Event()
        # A client of its own: what the study does with its one is no concern of this thread.
        self._client = MlflowClient()
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def stop(self) -> None:
        """Stop renewing; one that is under way may still arrive."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self.seconds):
            try:
                self._client.set_tag(self.run_id, HEARTBEAT, beat())
            except Exception as error:
                # The store may be away for a while. Whether the study can go on is not decided here.
                logger.debug("no heartbeat of the run %s: %s", self.run_id, error)


def beat() -> str:
    """Return the heartbeat of this moment."""
    return str(int(time.time()))


def expired(tags: Mapping[str, str]) -> bool | None:
    """Return whether the heartbeat among a run's tags is too old; None where there is none that can be read."""
    text = tags.get(HEARTBEAT, "")
    return time.time() - int(text) > EXPIRED_SECONDS if text.isdecimal() else None
