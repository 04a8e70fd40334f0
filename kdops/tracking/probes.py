"""What was found out about a stored model later, on its own run."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag

from kdops.config.attacks import Attack
from kdops.sweeps import schema

__all__ = ["log_probe"]


def log_probe(
    client: MlflowClient, run_id: str, attack: Attack, images: int, metrics: Mapping[str, float], figures: Path
) -> None:
    """Put the result of an attack on the run of a model; that of an earlier attack of the same name is replaced.

    Args:
        client: a client of the store.
        run_id: the run of the model.
        attack: how it was attacked.
        images: with how many images.
        metrics: by name.
        figures: a folder with them.
    """
    now = int(time.time() * 1000)
    earlier = {name for name in client.get_run(run_id).data.metrics if name.startswith(f"attack_{attack.name}_")}
    # A store has no call that takes a metric from a run.
    metrics = {**dict.fromkeys(earlier, math.nan), **metrics}
    client.log_artifacts(run_id, str(figures), "attacks")
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, now, 0) for name, value in metrics.items()],
        tags=[RunTag(f"{schema.ATTACK}.{attack.name}", f"{attack} on {images} test images")],
    )
