"""Runs an entry point as the MLflow project it is, in a run that names this process until the study names its own.

MLflow would make the run without a name: where it is killed before the study begins, nothing would show that the run is
of a dead process. MLflow is imported only once a study is launched.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kdops.cli.process import configure_process
from kdops.errors import KdopsError
from kdops.store.liveness import beat
from kdops.utils.files import temporary_folder
from kdops.utils.process import LAUNCHER
from kdops.utils.quiet import ASKED_IN_A_STUDY, ASKED_ONCE_MORE, server_patience, silenced

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment


def run_project(entry_point: str, parameters: Mapping[str, str]) -> None:
    """Run an entry point in a child process, and see that its run has an end.

    Raises:
        KdopsError: it failed.
        KeyboardInterrupt: it was interrupted; its run is KILLED, where MLflow alone would call it FAILED.
    """
    configure_process("mlflow")
    import mlflow
    from mlflow import MlflowClient
    from mlflow.exceptions import ExecutionException

    from kdops.store.database import folded_log
    from kdops.store.faults import explained_faults
    from kdops.utils.process import ProcessId

    os.environ[LAUNCHER] = str(ProcessId.own())
    # MLflow's lines repeat the whole command; the pipeline itself reports what matters.
    # A wrong address is reported within seconds; once models are trained, a server that is away is waited for.
    uri = os.environ["MLFLOW_TRACKING_URI"]
    with silenced("mlflow.projects"), explained_faults(uri), folded_log(uri):
        with server_patience(ASKED_ONCE_MORE):
            experiment, client = _experiment(), MlflowClient()
            run_id = _make_run(client, experiment.experiment_id, entry_point, parameters)
        try:
            # MLflow makes a folder of its own in there and leaves it.
            with server_patience(ASKED_IN_A_STUDY), temporary_folder() as folder:
                mlflow.projects.run(
                    uri=str(_project_folder()),
                    entry_point=entry_point,
                    parameters=dict(parameters),
                    env_manager="local",
                    synchronous=True,
                    storage_dir=str(folder),
                    experiment_id=experiment.experiment_id,
                    run_id=run_id,
                )
        except ExecutionException as error:
            raise KdopsError(f"{entry_point}: {error}; what went wrong is told above") from None
        except KeyboardInterrupt:
            _end(client, run_id, "KILLED", ("RUNNING", "FAILED"))
            raise
        except BaseException:
            _end(client, run_id, "FAILED", ("RUNNING",))
            raise


def _make_run(client: MlflowClient, experiment_id: str, entry_point: str, parameters: Mapping[str, str]) -> str:
    """Make the run of a study as MLflow does for a project, with this process on it from its start; return its id."""
    from mlflow.entities import Param
    from mlflow.projects.utils import load_project
    from mlflow.tracking.context.registry import resolve_tags
    from mlflow.utils.git_utils import get_git_commit

    from kdops.sweeps import schema

    folder = str(_project_folder())
    tags = {
        **resolve_tags(),
        "mlflow.source.name": folder,
        "mlflow.source.type": "PROJECT",
        "mlflow.project.entryPoint": entry_point,
        schema.PROCESS: os.environ[LAUNCHER],
        schema.HEARTBEAT: beat(),
    }
    if commit := get_git_commit(folder):
        tags["mlflow.source.git.commit"] = commit
    run_id: str = client.create_run(experiment_id, tags=tags).info.run_id
    given = load_project(folder).get_entry_point(entry_point).compute_parameters(dict(parameters), storage_dir=None)
    client.log_batch(run_id, params=[Param(name, value) for part in given for name, value in part.items()])
    return run_id


def _end(client: MlflowClient, run_id: str, status: str, instead_of: tuple[str, ...]) -> None:
    """End a run whose status is one of some; where the store is away, the next study ends it."""
    with suppress(Exception), server_patience(ASKED_ONCE_MORE):
        if client.get_run(run_id).info.status in instead_of:
            client.set_terminated(run_id, status)


def _project_folder() -> Path:
    """Return the folder of ``MLproject``: the source checkout, else the copy that the wheel carries."""
    from kdops.store.experiment import is_project

    package = Path(__file__).resolve().parents[1]
    for folder in (package.parent, package / "project"):
        if is_project(folder):
            return folder
    raise KdopsError(f"no MLproject of kdops beside {package}; is the installation complete?")


def _experiment() -> Experiment:
    """Return the experiment; make it where it is missing.

    It is made here, in the caller's folder: that is where MLflow then puts a local store's artifacts.
    """
    from kdops.store.client import client_of
    from kdops.store.copies import check_own_artifacts
    from kdops.store.database import ensure_experiment, ensure_store
    from kdops.store.experiment import experiment_name

    uri = os.environ["MLFLOW_TRACKING_URI"]
    ensure_store(uri)
    client = client_of(uri)
    experiment = client.get_experiment(ensure_experiment(experiment_name()))
    check_own_artifacts(client, experiment)
    return experiment
