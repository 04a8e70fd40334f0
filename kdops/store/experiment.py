"""Which experiment a study belongs to: ours, unless MLflow's own means name another."""

from __future__ import annotations

import os
import re
from pathlib import Path

EXPERIMENT = "kdops"


def is_project(folder: Path) -> bool:
    """Return whether a folder holds the kdops project, going by the name in its ``MLproject``."""
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
