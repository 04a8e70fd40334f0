"""Puts a bare ``mlflow run . -e NAME`` into the experiment ``kdops`` instead of *Default*.

MLflow loads this in every process that imports it, wherever kdops is installed; so it imports nothing
heavy, and it speaks up only inside the project's folder.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mlflow.tracking.default_experiment.abstract_context import DefaultExperimentProvider

__all__ = ["EXPERIMENT", "KdopsExperimentProvider", "experiment_name", "is_project"]

EXPERIMENT = "kdops"


def is_project(folder: Path) -> bool:
    """Say whether a folder holds the kdops project, going by the name in its ``MLproject``."""
    try:
        text = (folder / "MLproject").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return re.search(r"^name:\s*([\"']?)kdops\1\s*(#.*)?$", text, re.MULTILINE) is not None


def experiment_name() -> str:
    """Name the experiment of this process: that of the run MLflow made for it, then MLflow's variables, then ours."""
    from mlflow import MlflowClient

    if run_id := os.environ.get("MLFLOW_RUN_ID"):
        client = MlflowClient()
        return client.get_experiment(client.get_run(run_id).info.experiment_id).name
    name, identity = (os.environ.get(f"MLFLOW_EXPERIMENT_{key}") for key in ("NAME", "ID"))
    if name or not identity:
        return name or EXPERIMENT
    return MlflowClient().get_experiment(identity).name


class KdopsExperimentProvider(DefaultExperimentProvider):
    """Names the experiment where nothing else does: no argument and no variable of MLflow's own."""

    def in_context(self) -> bool:
        """Say whether the current folder is the kdops project."""
        return is_project(Path())

    def get_experiment_id(self) -> str:
        """Give the id of the experiment ``kdops``, creating it where it is missing."""
        # Only here: MLflow is still half imported when it loads this module.
        from kdops.store import ensure_experiment

        return ensure_experiment(EXPERIMENT)
