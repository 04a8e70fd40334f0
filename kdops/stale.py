"""Runs that a killed process left RUNNING: found by the process that each run names, and ended."""

from __future__ import annotations

import time
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from kdops.experiment import is_project
from kdops.ownrun import PROCESS
from kdops.paging import every
from kdops.parameters import ENTRY_POINTS
from kdops.process import ProcessName
from kdops.registry import Registry

__all__ = ["end_stale_runs"]

PAGE = 1000
NAMELESS_SECONDS = 300.0
"""A study names its process within seconds of its start. A run that MLflow made for one and that has no name after
this long was killed before it could."""


def end_stale_runs(client: MlflowClient, registry: Registry, experiment: str) -> None:
    """End as KILLED the runs whose process is surely gone, and withdraw what they registered.

    Another live study is left alone, on this host or another; of a process on another host nothing is known.
    """
    running = every(client.search_runs, [experiment], "attributes.status = 'RUNNING'", max_results=PAGE)
    # Read to the end first: ending a run takes it out of the search and would shift the pages.
    for run in list(running):
        if _is_stale(run):
            registry.withdraw(run.info.run_id)
            client.set_terminated(run.info.run_id, "KILLED")


def _is_stale(run: Run) -> bool:
    name = run.data.tags.get(PROCESS)
    if name:
        return ProcessName.own().knows_gone(name)
    return _is_ours(run) and time.time() - run.info.start_time / 1000 > NAMELESS_SECONDS


def _is_ours(run: Run) -> bool:
    """Say whether MLflow made a run for an entry point of this project."""
    entry_point = run.data.tags.get("mlflow.project.entryPoint")
    folder = run.data.tags.get("mlflow.source.name", "").partition("#")[0].removeprefix("file://")
    return entry_point in {*ENTRY_POINTS, "main"} and is_project(Path(folder))
