"""MLflow's own progress bars, which kdops does without: it tells of whole steps, and a bar a file drowns that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR

__all__ = ["without_bars"]


@contextmanager
def without_bars() -> Iterator[None]:
    """Keep MLflow from drawing a progress bar for each file, on a terminal or not."""
    before = MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.get_raw()
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(False)
    try:
        yield
    finally:
        if before is None:
            MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.unset()
        else:
            MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.set(before)
