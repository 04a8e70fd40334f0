"""Whether a study still runs: its process and its heartbeat, on the run that MLflow made for it.

The process decides on the host it runs on; the heartbeat is for other hosts, which cannot see it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping

from kdops.sweeps import schema
from kdops.utils.secrets import redact_secrets

CHARACTERS = 1000
"""Of an error; MLflow keeps 8,000, and a page shows far fewer."""

BEAT_SECONDS = 60.0
EXPIRED_SECONDS = 1800.0
"""A study that was silent for so long is gone. A server may be away for ten minutes and more, which a study waits for,
and clocks of two hosts may differ by minutes."""

logger = logging.getLogger(__name__)


class Heartbeat:
    """Renew the heartbeat of a run in the background, until it is stopped or the process ends."""

    def __init__(self, run_id: str, seconds: float = BEAT_SECONDS):
        self.run_id, self.seconds = run_id, seconds
        self._stopped = threading.Event()
        from mlflow import MlflowClient  # not above: the command line imports this module

        # A client of its own: what the study does with its one is no concern of this thread.
        self._client = MlflowClient()
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def stop(self) -> None:
        """Stop renewing; one that is under way may still arrive."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self.seconds):
            try:
                self._client.set_tag(self.run_id, schema.HEARTBEAT, beat())
            except Exception as error:
                # The store may be away for a while. Whether the study can go on is not decided here.
                logger.debug("no heartbeat of the run %s: %s", self.run_id, error)


def beat() -> str:
    """Return the heartbeat of this moment: seconds since the epoch by the clock of the study's host."""
    return str(int(time.time()))


def expired(tags: Mapping[str, str]) -> bool | None:
    """Return whether the heartbeat among a run's tags is too old; None where there is none that can be read."""
    text = tags.get(schema.HEARTBEAT, "")
    return time.time() - int(text) > EXPIRED_SECONDS if text.isdecimal() else None


def name_process() -> None:
    """Write the id of this process on its run, so that others can find out whether the study still runs."""
    from kdops.utils.process import ProcessId

    _write(schema.PROCESS, str(ProcessId.own()))


def note_error(message: str) -> None:
    """Write on the run why it failed; where the store cannot be written to, nothing is written."""
    try:
        _write(schema.ERROR, redact_secrets(message)[:CHARACTERS])
    except Exception:
        return


def _write(tag: str, value: str) -> None:
    if run_id := os.environ.get("MLFLOW_RUN_ID"):
        from mlflow import MlflowClient

        MlflowClient().set_tag(run_id, tag, value)
