"""Runs that a killed process left RUNNING: found by the process that each run names or by its heartbeat, and ended."""

from __future__ import annotations

import getpass
import logging
import time
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from kdops.config.parameters import ENTRY_POINTS
from kdops.registry.lookup import existing, with_parents
from kdops.registry.versions import Registry
from kdops.store.client import paged
from kdops.store.database import sqlite_file
from kdops.store.experiment import is_project
from kdops.store.faults import first_line
from kdops.store.liveness import expired
from kdops.sweeps import schema
from kdops.utils.process import ProcessId, may_be_open

NAMELESS_SECONDS = 3600.0
"""A study names its process within seconds of its start, but before that MLflow may build an environment. A run that it
made for one and that has no name after this long was killed before it could."""

LAUNCHED_SECONDS = 60.0
"""So old a run without a name must be at least, also where it is known that nobody is there any more to name it."""

logger = logging.getLogger(__name__)


def end_stale_runs(client: MlflowClient, registry: Registry, experiment: str) -> None:
    """End as KILLED the runs whose process is gone, and withdraw what they made.

    Of a process on this host that is known at once. Of one on another host the heartbeat of its study shows it: a
    run is left alone as long as it is renewed, and for good where there is none.
    """
    running = paged(client.search_runs, [experiment], "attributes.status = 'RUNNING'")
    # Read to the end first: ending a run takes it out of the search and would shift the pages.
    known = {run.info.run_id: run for run in running}
    for run in list(known.values()):
        try:
            if is_stale(client, run, known):
                discard_run(client, registry, run.info.run_id, "KILLED")
        except MlflowException as error:
            # What others left must not keep this study from starting: a server may forbid deleting it, for example.
            logger.warning("the run %s of a dead process could not be ended: %s", run.info.run_id, first_line(error))


def discard_run(client: MlflowClient, registry: Registry, run_id: str, status: str) -> None:
    """Withdraw the version and the logged model that a run may have made, and end the run, which is not whole.

    In this order: where a step fails the run's status stays RUNNING, and the next study does them all. A run that has
    ended meanwhile is left alone.
    """
    info = client.get_run(run_id).info
    if info.status != "RUNNING":
        return
    registry.delete_versions_of(run_id)
    for model in list(paged(client.search_logged_models, [info.experiment_id], f"source_run_id = '{run_id}'")):
        client.delete_logged_model(model.model_id)
    client.set_terminated(run_id, status)


def is_stale(client: MlflowClient, run: Run, known: dict[str, Run]) -> bool:
    """Return whether a run with the status RUNNING has no process any more.

    Args:
        known: runs by id, those above it among them; what is missing is looked up and added.
    """
    name = run.data.tags.get(schema.PROCESS)
    if not name:
        age = time.time() - run.info.start_time / 1000
        return _is_ours(run) and (age > NAMELESS_SECONDS or (age > LAUNCHED_SECONDS and _is_abandoned(client, run)))
    own = ProcessId.own()
    if own.shares_host(name):
        return own.is_dead(name)
    return ProcessId.parse(name) is not None and _is_silent(client, run, known)


def _is_silent(client: MlflowClient, run: Run, known: dict[str, Run]) -> bool:
    """Return whether the study that a run belongs to has a heartbeat, and that one is expired."""

    def read(run_id: str) -> Run | None:
        # Of a study that was deleted for good nothing is known.
        if run_id not in known and (found := existing(client.get_run, run_id)):
            known[run_id] = found
        return known.get(run_id)

    heartbeats = (expired(one.data.tags) for one in with_parents(run, read))
    return next((old for old in heartbeats if old is not None), False)


def _is_abandoned(client: MlflowClient, run: Run) -> bool:
    """Return whether the process that made a run in a local store has surely ended.

    It, or the server that it writes through, was one of this host, since all that write to a database with a log share
    memory, and holds the database open as long as it lives.
    """
    database = sqlite_file(client.tracking_uri)
    if database is None or not Path(f"{database}-shm").exists() or run.data.tags.get("mlflow.user") != _user():
        return False
    return not may_be_open(database, run.info.start_time / 1000)


def _user() -> str | None:
    """Return the name of the user as MLflow writes it on a run; None for a user without one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def _is_ours(run: Run) -> bool:
    """Return whether MLflow made a run for an entry point of this project."""
    entry_point = run.data.tags.get("mlflow.project.entryPoint")
    folder = run.data.tags.get("mlflow.source.name", "").partition("#")[0].removeprefix("file://")
    return entry_point in {*ENTRY_POINTS, "main"} and is_project(Path(folder))
