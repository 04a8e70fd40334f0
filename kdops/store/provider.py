"""Puts a bare ``mlflow run . -e NAME`` into the experiment ``kdops`` instead of *Default*.

MLflow loads this in every process that imports it, wherever kdops is installed; so it imports nothing heavy, and it
speaks up only inside the project's folder. Nothing of kdops imports it: a module that MLflow loads while it is itself
half imported must not be half imported too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mlflow.tracking.default_experiment.abstract_context import DefaultExperimentProvider

from kdops.store.experiment import EXPERIMENT, is_project


class KdopsExperimentProvider(DefaultExperimentProvider):
    """Names the experiment where nothing else does: no argument and no variable of MLflow's own."""

    def in_context(self) -> bool:
        """Return whether the current folder is the kdops project.

        For ``mlflow run . --env-manager uv`` it also tells uv to leave kdops itself out of the new environment: where
        ``uv run`` left a ``uv.lock``, MLflow has uv install from copies of that file and ``pyproject.toml`` alone, from
        which kdops cannot be built; the project's command runs in its folder and needs no installed kdops.
        """
        found = is_project(Path())
        # ``python -m mlflow`` has the path of ``mlflow/__main__.py``.
        program = Path(sys.argv[0])
        name = program.parent.name if program.stem == "__main__" else program.stem
        if found and name == "mlflow" and sys.argv[1:2] == ["run"]:
            os.environ.setdefault("UV_NO_INSTALL_PROJECT", "1")
        return found

    def get_experiment_id(self) -> str:
        """Return the id of the experiment ``kdops``, creating it where it is missing."""
        # Only here: MLflow is still half imported when it loads this module.
        from kdops.store.database import ensure_experiment

        return ensure_experiment(EXPERIMENT)
