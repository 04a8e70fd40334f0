"""What failed studies left in a store: found, listed with its size, and removed.

Only what kdops itself made in one experiment is looked at. One set of rules judges twice: everything when it is listed,
and each piece anew, with what belongs to its run, right before it goes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from kdops.errors import KdopsError
from kdops.registry.registered import RegisteredVersion
from kdops.registry.versions import delete_version
from kdops.store.artifacts import is_empty, local_folder, remove_files
from kdops.store.client import paged, paged_versions
from kdops.store.copies import check_own_artifacts
from kdops.sweeps import schema
from kdops.tracking.garbage_rules import ELSEWHERE, GONE, Judge, Piece, StoredModel, read_with_parents

MODELS_PAGE = 250
"""Logged models that are asked for at a time: MLflow makes an object of each of their metrics, parameters and tags."""

OLD_SECONDS = 14 * 86400.0
"""A checkpoint that was not touched for so long is not used any more."""


def find_garbage(
    client: MlflowClient, experiment_id: str, beside: Path | None = None, missing_files: bool = False
) -> list[Piece]:
    """Find what failed studies left in an experiment, in the order in which it is to be removed.

    Args:
        experiment_id: the experiment; runs of others are never looked at.
        beside: the folder with checkpoints, where there may be one.
        missing_files: let versions go whose files are gone, however many they are.

    Raises:
        KdopsError: none of the experiment's artifacts is where it should be, or they are those of another store.
    """
    experiment = client.get_experiment(experiment_id)
    check_own_artifacts(client, experiment)
    root = experiment.artifact_location
    folder = local_folder(root)
    judge = Judge(
        client,
        root,
        _unfinished(client, experiment_id),
        _logged_models(client, experiment_id, ""),
        _versions(client, None),
        sorted((folder / "models").glob("m-*/artifacts")) if folder else [],
    )
    if judge.models and not missing_files and is_empty(client, root):
        raise KdopsError(f"there is nothing at all at {root}, where the artifacts should be: is it mounted? All stays")
    found = judge.pieces()
    if not missing_files:
        found = _without_many_missing(found, len(judge.models))
    return [*found, *(_checkpoints(beside) if beside else ())]


def remove_garbage(client: MlflowClient, experiment_id: str, pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Remove pieces one by one, and yield each: with ``kept`` where it changed since it was found, so that it stays.

    Files go before what names them, so that what was begun is found and finished the next time.
    """
    root = client.get_experiment(experiment_id).artifact_location
    for piece in pieces:
        if piece.kept:
            continue
        try:
            again = piece if piece.kind == "checkpoint" else _judged_anew(client, experiment_id, root, piece)
            if not again.kept:
                _remove(client, piece)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            again = replace(piece, kept="somebody else removed it meanwhile")
        yield replace(piece, kept=again.kept)


def _without_many_missing(pieces: Sequence[Piece], models: int) -> list[Piece]:
    """Keep versions whose files are gone, if they are several or not outnumbered: a disk may be away."""
    lost = [piece for piece in pieces if piece.why == GONE and piece.kept != ELSEWHERE]
    if not lost or (len(lost) == 1 and models > 2):
        return list(pieces)
    kept = f"{len(lost)} of {models} models lack their files: is the disk mounted? If they are lost: --missing-files"
    return [replace(one, kept=one.kept or kept) if one.why == GONE else one for one in pieces]


def _remove(client: MlflowClient, piece: Piece) -> None:
    if piece.kind == "version":
        delete_version(client, client.get_model_version(*piece.name.split("/")))
    elif piece.kind == "logged model":
        remove_files(client, client.get_logged_model(piece.name).artifact_location)
        client.delete_logged_model(piece.name)
    elif piece.kind == "run":
        remove_files(client, client.get_run(piece.name).info.artifact_uri)
        client.delete_run(piece.name)
    elif piece.kind == "files":
        remove_files(client, piece.name)
    else:
        Path(piece.name).unlink(missing_ok=True)


def _judged_anew(client: MlflowClient, experiment_id: str, root: str, piece: Piece) -> Piece:
    """Judge a piece by what the store holds now of its run, and of what belongs to that."""
    judge = Judge(
        client,
        root,
        read_with_parents(client, piece.run_id),
        _logged_models(client, experiment_id, f"source_run_id = '{piece.run_id}'"),
        _versions(client, f"run_id = '{piece.run_id}'"),
        [Path(piece.name)] if piece.kind == "files" else [],
    )
    found = [one for one in judge.pieces() if (one.kind, one.name) == (piece.kind, piece.name)]
    return found[0] if found else replace(piece, kept="it is whole by now, in use, or gone")


def _unfinished(client: MlflowClient, experiment_id: str) -> dict[str, Run]:
    """Return the runs of kdops that did not finish, and those above them, by id."""
    where = f"tags.`{schema.STUDY}` != '' and attributes.status != 'FINISHED'"
    found = {run.info.run_id: run for run in paged(client.search_runs, [experiment_id], where)}
    for run in list(found.values()):
        if (parent := run.data.tags.get(schema.PARENT, "")) not in found:
            found |= read_with_parents(client, parent)
    return found


def _logged_models(client: MlflowClient, experiment_id: str, where: str) -> dict[str, StoredModel]:
    """Return the logged models of kdops that are not marked as deleted, by id; of each no more than is judged."""
    found = paged(client.search_logged_models, [experiment_id], where or None, max_results=MODELS_PAGE)
    return {model.model_id: StoredModel.of(model) for model in found if schema.CHAIN in model.tags}


def _versions(client: MlflowClient, where: str | None) -> list[RegisteredVersion]:
    return list(map(RegisteredVersion.of, paged_versions(client, where)))


def _checkpoints(folder: Path) -> Iterator[Piece]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        status = path.stat()
        if path.is_file() and time.time() - status.st_mtime > OLD_SECONDS:
            yield Piece("checkpoint", str(path), "not used for 14 days", status.st_size)
