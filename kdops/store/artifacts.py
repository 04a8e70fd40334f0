"""Places of artifacts, local or on a server: what lies there, how large it is, and how it is removed."""

from __future__ import annotations

import re
from pathlib import Path

from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.file_utils import local_file_uri_to_path

__all__ = ["holds_model", "is_empty", "local_folder", "remove_files", "size_of"]


def is_empty(client: MlflowClient, location: str) -> bool:
    """Return whether there is nothing at all."""
    return not get_artifact_repository(location, client.tracking_uri).list_artifacts()


def holds_model(client: MlflowClient, location: str) -> bool:
    """Return whether an MLflow model lies there."""
    repository = get_artifact_repository(location, client.tracking_uri)
    return any(found.path == "MLmodel" for found in repository.list_artifacts())


def size_of(client: MlflowClient, location: str) -> int:
    """Return the bytes of all files at a place of artifacts; 0 where there is none."""
    repository, left, size = get_artifact_repository(location, client.tracking_uri), [None], 0
    while left:
        for found in repository.list_artifacts(left.pop()):
            size += 0 if found.is_dir else found.file_size or 0
            left += [found.path] if found.is_dir else []
    return size


def remove_files(client: MlflowClient, location: str) -> None:
    """Remove all that lies there."""
    get_artifact_repository(location, client.tracking_uri).delete_artifacts()
    folder = local_folder(location)
    # What is left of a model on disk is the folder that its files' folder lay in.
    if folder is not None and folder.parent.is_dir() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def local_folder(location: str) -> Path | None:
    """Return the folder of a place of artifacts on this disk; None for any other."""
    # ``mlflow-artifacts:/1`` has one slash; a letter alone is a disk of Windows.
    if re.match(r"(?!file:)[A-Za-z][\w+.-]+:", location):
        return None
    return Path(local_file_uri_to_path(location))
