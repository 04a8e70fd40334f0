"""The environment of workers: nothing of MLflow's, one device, and the modules that the study finds."""

from __future__ import annotations

import os
import sys

from kdops.utils.process import LAUNCHER


def worker_environment(threads: int, gpu: str = "") -> dict[str, str]:
    """Return the environment of a worker: nothing of MLflow's, one device, and the modules that this process finds.

    Args:
        threads: how many it computes with.
        gpu: the only GPU that it sees, as ``CUDA_VISIBLE_DEVICES`` names it; empty for none.
    """
    kept = {name: text for name, text in os.environ.items() if not is_private(name)}
    path = os.pathsep.join(folder for folder in sys.path if folder)
    return {**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": gpu}


def is_private(name: str) -> bool:
    """Return whether a variable is the study's alone: the store, its password, and who launched it."""
    return name.startswith("MLFLOW_") or name == LAUNCHER
