"""Environment variables, loggers and filters of warnings, set for a while."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

QUIET = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"

ASKED_ONCE_MORE = 2
"""How often a server that does not answer is asked again before a study: after 0 and 4 seconds."""

ASKED_IN_A_STUDY = 10
"""And within one, at most for MLflow: after 0, 4, 8, ... and from then on every 120 seconds, for ten minutes in all. So
long a server may be restarted or moved while a study goes on."""


WARNINGS = threading.RLock()
"""The filters of warnings are the process's: two threads that restore them in turn would leave those of each other."""


@contextmanager
def without_warning(message: str = "") -> Iterator[None]:
    """Ignore warnings for a while, in one thread at a time.

    Args:
        message: a regular expression for the beginning of their text; empty for all.
    """
    with WARNINGS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=message)
        yield


@contextmanager
def silenced(*loggers: str, level: int = logging.CRITICAL) -> Iterator[None]:
    """Log nothing below a level for a while, by these loggers and those below them that have no level of their own.

    Args:
        loggers: their names; an empty name is the root.
        level: what is still logged.
    """
    found = [logging.getLogger(name) for name in loggers]
    before = [logger.level for logger in found]
    for logger in found:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, own in zip(found, before, strict=True):
            logger.setLevel(own)


@contextmanager
def env_var(name: str, value: str) -> Iterator[None]:
    """Set a variable for a while, then restore the value that it had, if any."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def server_patience(retries: int) -> Iterator[None]:
    """Return for a while how often MLflow asks a server again that does not answer; what the caller has set holds.

    Nor does MLflow then print two lines with addresses for each run that ends on a server.
    """
    with env_var(QUIET, os.environ.get(QUIET) or "true"):
        if os.environ.get(RETRIES):
            yield
            return
        with env_var(RETRIES, str(retries)):
            yield


def without_bars() -> AbstractContextManager[None]:
    """Keep MLflow's progress bars off the terminal for a while: one per file would hide what kdops reports."""
    return env_var("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
