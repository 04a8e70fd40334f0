"""Find and delete duplicates created when a request was retried after its response was lost.

MLflow's client repeats every request that a server or a gateway did not answer in time, also one that makes a run, a
logged model or a version. The first request may have been carried out all the same; then there are two of what it
made, and the client knows the last one alone. A run names the process that made it and a logged model its run, so what
belongs to this process and is not known to it is a double. It was never written to: nothing is lost with it.

A local database is asked once and answers; nothing is looked for there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus, Run
from mlflow.exceptions import MlflowException

from kdops.store.client import paged
from kdops.store.faults import first_line
from kdops.sweeps import schema
from kdops.utils.process import LAUNCHER, ProcessId

logger = logging.getLogger(__name__)

WHY = "made twice by a request that was sent again; its double was used"
PROJECT = "mlflow.project.entryPoint"

CLOCKS = 1_800_000
"""Milliseconds by which a server's clock may be behind: a run starts by this host's, a logged model by the server's."""


def drop_double_runs(client: MlflowClient, parent: Run, known: Collection[str]) -> None:
    """End and delete the runs that this process made without knowing, and those that MLflow made beside the parent.

    Args:
        known: the ids of every run that this process made or was given.
    """
    if not _is_served(mlflow.get_tracking_uri()):
        return
    info, tags = parent.info, parent.data.tags
    running = "attributes.status = 'RUNNING'"
    own = f"{running} and tags.`{schema.PROCESS}` = '{ProcessId.own()}'"
    found = list(paged(client.search_runs, [info.experiment_id], own))
    if PROJECT in tags:
        # The request that made this run was repeated to the letter, its time in milliseconds included.
        alike = f"{running} and attributes.start_time = {info.start_time} and tags.`{PROJECT}` = '{tags[PROJECT]}'"
        twins = paged(client.search_runs, [info.experiment_id], alike)
        # Only the process that launched this one names such a run.
        launched = ("", os.environ.get(LAUNCHER, ""))
        found += [run for run in twins if run.data.tags.get(schema.PROCESS, "") in launched]
    for run in found:
        if run.info.run_id not in known:
            _drop("run", run.info.run_id, lambda one: _end(client, one))


def drop_unfinished_models(client: MlflowClient, experiment: str, since: int, runs: Collection[str]) -> None:
    """Delete the logged models of this process's runs that never became whole: doubles, and those of failed runs.

    Args:
        since: when the study began by the clock of this host, in milliseconds since the epoch.
    """
    if not _is_served(mlflow.get_tracking_uri()):
        return
    # A status cannot be searched for in every database that a server may have.
    recent = f"creation_timestamp >= {since - CLOCKS}"
    models = paged(client.search_logged_models, [experiment], recent)
    for model in list(models):
        if model.source_run_id in runs and model.status == LoggedModelStatus.PENDING:
            _drop("logged model", model.model_id, client.delete_logged_model)


def drop_double_versions(client: MlflowClient, name: str, run_id: str, version: str) -> None:
    """Delete the other versions of a model: at once, since a version is there to be ranked and drawn from.

    Args:
        run_id: the run of the model, which has one version.
    """
    if not _is_served(mlflow.get_registry_uri()):
        return
    for other in list(paged(client.search_model_versions, f"run_id = '{run_id}'")):
        if other.name == name and int(other.version) != int(version):
            _drop("version", other.version, lambda one: client.delete_model_version(name, one))


def _is_served(uri: str) -> bool:
    return uri.startswith(("http:", "https:"))


def _end(client: MlflowClient, run_id: str) -> None:
    # Ended first: a user who may write to an experiment need not be allowed to delete.
    client.set_tag(run_id, schema.ERROR, WHY)
    client.set_terminated(run_id, "KILLED")
    client.delete_run(run_id)


def _drop(what: str, identity: str, delete: Callable[[str], object]) -> None:
    """Delete one; where the server does not allow it, log that and go on."""
    try:
        delete(identity)
    except MlflowException as error:
        logger.warning("the %s %s was %s, and could not be deleted: %s", what, identity, WHY, first_line(error))
