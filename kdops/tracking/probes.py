"""What was found out about a stored model later, on its own run."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag

__all__ = ["Probed", "log_probe"]


@dataclass(frozen=True)
class Probed:
    """What a probe of a model found.

    Attributes:
        tag: the tag that says how it was measured.
        how: its text.
        prefix: begins the names of its metrics.
        metrics: by name.
        folder: the folder of its figures among the artifacts, where it has figures.
    """

    tag: str
    how: str
    prefix: str
    metrics: Mapping[str, float]
    folder: str


def log_probe(client: MlflowClient, run_id: str, found: Probed, figures: Path) -> None:
    """Put what a probe found on the run of a model; what an earlier one of the same kind found is replaced.

    Args:
        client: a client of the store.
        run_id: the run of the model.
        found: what was found.
        figures: a folder with its figures.
    """
    now = int(time.time() * 1000)
    earlier = {name for name in client.get_run(run_id).data.metrics if name.startswith(found.prefix)}
    # A store has no call that takes a metric from a run.
    metrics = {**dict.fromkeys(earlier, math.nan), **found.metrics}
    if any(figures.iterdir()):
        client.log_artifacts(run_id, str(figures), found.folder)
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
        tags=[RunTag(found.tag, found.how)],
    )
