"""Copies of a local store: their database names the artifacts of the original by absolute paths."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Experiment

from kdops.errors import KdopsError
from kdops.store.artifacts import local_folder
from kdops.store.database import sqlite_file
from kdops.sweeps import schema


def check_own_artifacts(client: MlflowClient, experiment: Experiment) -> None:
    """Refuse to write to an experiment, or to remove from it, whose artifacts are those of another store.

    A tag of the experiment holds which database it was made in. One without the tag, or whose database was moved, is
    judged by where its artifacts are: beside another database of the same name they belong to that one.

    Raises:
        KdopsError: the opened database is a copy of another one that is still there.
    """
    database = sqlite_file(client.tracking_uri)
    folder = local_folder(experiment.artifact_location)
    if database is None or folder is None:
        return
    # MLflow puts the artifacts of an experiment into ``mlruns/<id>`` of the folder in which it was made.
    made_in = experiment.tags.get(schema.DATABASE, "")
    candidates = [Path(made_in)] * bool(made_in) + [one / database.name for one in folder.absolute().parents[:2]]
    original = next((one for one in candidates if one.is_file()), database)
    if not original.samefile(database):
        raise KdopsError(
            f"the store {database} is a copy: the artifacts of its experiment {experiment.name} are in {folder}, and "
            f"belong to the store {original}; nothing is written or removed there. Name that store with "
            "MLFLOW_TRACKING_URI, or a new experiment with MLFLOW_EXPERIMENT_NAME, whose artifacts are its own"
        )
