"""Environment variables, set for a while."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["environment", "without_bars"]


@contextmanager
def environment(name: str, value: str) -> Iterator[None]:
    """Set a variable for a while, then give it back the value that it had, if any."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def without_bars():
    """Keep MLflow's progress bars off the terminal for a while: one a file drowns what kdops tells of whole steps."""
    return environment("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
