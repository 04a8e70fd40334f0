"""What is measured from outside, in processes of their own: seconds, memory, and the figures that a child prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["ROOT", "environment", "printed", "run"]

ROOT = Path(__file__).resolve().parent.parent


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of a child that has its own store, in a folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    # As on a user's machine, where Python compiles a file once.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    # A child may start ``kdops`` or ``mlflow`` by name.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    if root := kept.get("KDOPS_DATA_ROOT"):
        kept["KDOPS_DATA_ROOT"] = os.path.abspath(os.path.expanduser(root))
    return {**kept, "PATH": path, "PYTHONPATH": paths, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}


def run(arguments: list[str], folder: Path) -> str:
    """Run Python with these arguments in a folder, and give what it printed.

    Raises:
        RuntimeError: it failed; with the end of what it said.
    """
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"python {' '.join(arguments)[:200]}: {done.stderr.strip()[-500:]}")
    return done.stdout


def printed(arguments: list[str], folder: Path) -> dict[str, float]:
    """Run Python with these arguments and give the JSON of its last line."""
    return json.loads(run(arguments, folder).strip().splitlines()[-1])
