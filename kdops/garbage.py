"""What failed studies left in a store: found, listed with its size, and removed.

Only what kdops itself made in one experiment is looked at. Whatever a finished run owns stays, and so does all that
belongs to a study whose process may be alive. MLflow's own delete only marks: files are removed here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.file_utils import local_file_uri_to_path

from kdops.errors import KdopsError
from kdops.paging import every
from kdops.registry import CHAMPION, PAGE
from kdops.stale import is_stale

__all__ = ["Piece", "find_garbage", "remove_garbage"]

OLD_SECONDS = 14 * 86400.0
"""Nobody goes on with a checkpoint after so long."""

UPLOAD_SECONDS = 86400.0
"""Files without a description may still be on their way; not for longer than this."""

RUNS = 1000
ENDED = ("FAILED", "KILLED")
CUT_OFF = ("running", "failed")
"""States of a search's trial that was killed; one that was pruned or diverged is a result of the search."""


@dataclass(frozen=True)
class Piece:
    """One thing that may go.

    Attributes:
        kind: ``version``, ``logged model``, ``run``, ``files`` or ``checkpoint``.
        name: which: ``name/version``, an id, or a path.
        why: why it may go, in a few words.
        size: bytes that are freed.
        kept: why it stays all the same; empty where it goes.
    """

    kind: str
    name: str
    why: str
    size: int = 0
    kept: str = ""


def find_garbage(client: MlflowClient, experiment_id: str, beside: Path | None = None) -> list[Piece]:
    """Find what failed studies left in an experiment, in the order in which it is to be removed.

    Args:
        client: a client of the store.
        experiment_id: the experiment; runs of others are never looked at.
        beside: the folder with checkpoints, where there may be one.

    Raises:
        KdopsError: none of the experiment's artifacts is where it should be.
    """
    where = "tags.`kdops.study` != ''"
    runs = {run.info.run_id: run for run in every(client.search_runs, [experiment_id], where, max_results=RUNS)}
    failed = {run_id: why for run_id, run in list(runs.items()) if (why := _why_failed(client, run, runs))}
    models = {
        model.model_id: model
        for model in every(client.search_logged_models, [experiment_id], max_results=PAGE)
        if "kdops.chain" in model.tags
    }
    root = client.get_experiment(experiment_id).artifact_location
    if models and not get_artifact_repository(root, client.tracking_uri).list_artifacts():
        raise KdopsError(f"there is nothing at all at {root}, where the artifacts should be: is it mounted? All stays")
    versions = [
        version
        for version in every(client.search_model_versions, "name LIKE 'kdops-%'", max_results=PAGE)
        if "fingerprint" in version.tags
    ]
    found = list(_versions(client, versions, runs, failed, models))
    gone = {version.source for version in versions if f"{version.name}/{version.version}" in {p.name for p in found}}
    registered = {version.source for version in versions} - gone
    found += _models(client, models.values(), runs, failed, registered)
    found += [
        Piece("run", run_id, why, _size(client, runs[run_id].info.artifact_uri)) for run_id, why in failed.items()
    ]
    return [*found, *_files(client, root, models, runs), *(_checkpoints(beside) if beside else ())]


def remove_garbage(client: MlflowClient, pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Remove pieces one by one, and give each that is gone.

    Files go before what names them, so that what was begun is found and finished the next time.
    """
    for piece in pieces:
        if piece.kept:
            continue
        if piece.kind == "version":
            client.delete_model_version(*piece.name.split("/"))
        elif piece.kind == "logged model":
            _remove_files(client, client.get_logged_model(piece.name).artifact_location)
            client.delete_logged_model(piece.name)
        elif piece.kind == "run":
            _remove_files(client, client.get_run(piece.name).info.artifact_uri)
            client.delete_run(piece.name)
        elif piece.kind == "files":
            _remove_files(client, piece.name)
        else:
            Path(piece.name).unlink(missing_ok=True)
        yield piece


def _why_failed(client: MlflowClient, run: Run, runs: dict[str, Run]) -> str:
    """Say why the run of a model may go; empty where it stays."""
    tags, status = run.data.tags, run.info.status
    if "kdops.role" not in tags or _is_of_live_study(client, run, runs):
        return ""
    if status == "RUNNING":
        return f"cut off: {run.info.run_name}"
    is_result = "kdops.trial" in tags and not (status == "KILLED" and tags.get("kdops.trial_state") in CUT_OFF)
    return f"{status}: {run.info.run_name}" if status in ENDED and not is_result else ""


def _is_of_live_study(client: MlflowClient, run: Run | None, runs: dict[str, Run]) -> bool:
    """Say whether a run or one above it says RUNNING, unless its process is gone."""
    seen: set[str] = set()
    while run is not None and run.info.run_id not in seen:
        seen.add(run.info.run_id)
        if run.info.status == "RUNNING" and not is_stale(client, run, runs):
            return True
        run = runs.get(run.data.tags.get("mlflow.parentRunId", ""))
    return False


def _versions(
    client: MlflowClient,
    versions: Sequence[ModelVersion],
    runs: dict[str, Run],
    failed: Mapping[str, str],
    models: Mapping[str, LoggedModel],
) -> Iterator[Piece]:
    """Give the versions that have no model: their run failed, or their files are gone."""
    aliases: dict[str, Mapping[str, str]] = {}
    for version in versions:
        # Of a run of another experiment, or one that was deleted by hand, nothing is known here.
        if version.run_id not in runs or _is_of_live_study(client, runs[version.run_id], runs):
            continue
        model = models.get((version.source or "").removeprefix("models:/"))
        if version.run_id in failed:
            why = "its run did not finish"
        elif model is None:
            why = "its logged model was deleted"
        elif not _has_model(client, model):
            why = "its files are gone"
        else:
            continue
        if version.name not in aliases:
            aliases[version.name] = client.get_registered_model(version.name).aliases
        own = sorted(a for a, number in aliases[version.name].items() if number == version.version and a != CHAMPION)
        kept = f"it is {', '.join(own)}: kdops rollback first" if own else ""
        yield Piece("version", f"{version.name}/{version.version}", why, kept=kept)


def _models(
    client: MlflowClient,
    models: Iterator[LoggedModel],
    runs: Mapping[str, Run],
    failed: Mapping[str, str],
    registered: set[str | None],
) -> Iterator[Piece]:
    """Give the logged models that neither a finished run nor a version needs."""
    for model in models:
        run = runs.get(model.source_run_id or "")
        if f"models:/{model.model_id}" in registered or (run is not None and run.info.run_id not in failed):
            continue
        if run is None and not _is_deleted(client, model.source_run_id or ""):
            continue
        why = "its run did not finish" if run is not None else "its run was deleted"
        yield Piece("logged model", model.model_id, f"{why}: {model.name}", _size(client, model.artifact_location))


def _files(client: MlflowClient, root: str, models: Mapping[str, LoggedModel], runs: dict[str, Run]) -> Iterator[Piece]:
    """Give the files on disk of models of failed runs that were marked deleted before."""
    folder = _local(root)
    for place in sorted((folder / "models").glob("m-*/artifacts")) if folder else ():
        if place.parent.name in models:
            continue
        try:
            described = yaml.safe_load((place / "MLmodel").read_text(encoding="utf-8"))
            run = client.get_run(str(described["run_id"]))
            status = "" if _is_of_live_study(client, run, runs) else run.info.status
        except FileNotFoundError:
            old = time.time() - place.stat().st_mtime > UPLOAD_SECONDS
            status = "cut off" if old and not _is_known(client, place.parent.name) else ""
        except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError, MlflowException):
            continue
        if status in (*ENDED, "cut off"):
            yield Piece("files", place.as_posix(), f"of a deleted model, {status}", _size(client, place.as_posix()))


def _checkpoints(folder: Path) -> Iterator[Piece]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        told = path.stat()
        if path.is_file() and time.time() - told.st_mtime > OLD_SECONDS:
            yield Piece("checkpoint", str(path), "nobody went on with it for 14 days", told.st_size)


def _is_deleted(client: MlflowClient, run_id: str) -> bool:
    """Say whether a run of this experiment's model was deleted by hand."""
    try:
        return client.get_run(run_id).info.lifecycle_stage == "deleted"
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return True


def _is_known(client: MlflowClient, model_id: str) -> bool:
    try:
        client.get_logged_model(model_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    return True


def _has_model(client: MlflowClient, model: LoggedModel) -> bool:
    repository = get_artifact_repository(model.artifact_location, client.tracking_uri)
    return any(found.path == "MLmodel" for found in repository.list_artifacts())


def _size(client: MlflowClient, location: str) -> int:
    """Give the bytes of all files at a place of artifacts; 0 where there is none."""
    repository, left, size = get_artifact_repository(location, client.tracking_uri), [None], 0
    while left:
        for found in repository.list_artifacts(left.pop()):
            size += 0 if found.is_dir else found.file_size or 0
            left += [found.path] if found.is_dir else []
    return size


def _remove_files(client: MlflowClient, location: str) -> None:
    get_artifact_repository(location, client.tracking_uri).delete_artifacts()
    folder = _local(location)
    # What is left of a model on disk is the folder that its files' folder lay in.
    if folder is not None and folder.parent.is_dir() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def _local(location: str) -> Path | None:
    """Give the folder of a place of artifacts on this disk; None for any other."""
    if "://" in location and not location.startswith("file:"):
        return None
    return Path(local_file_uri_to_path(location))
