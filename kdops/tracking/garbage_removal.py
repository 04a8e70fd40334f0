"""Removes from a store what :mod:`kdops.tracking.garbage` found there, each piece judged anew right before it goes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from kdops.registry.versions import PAGE, delete_version
from kdops.store.artifacts import remove_files
from kdops.store.client import paged
from kdops.tracking.garbage import (
    ENDED,
    Piece,
    is_of_live_study,
    needed_by_versions,
    versions_without_model,
    why_failed,
    with_parents,
)

__all__ = ["remove_garbage"]


def remove_garbage(client: MlflowClient, pieces: Sequence[Piece]) -> Iterator[Piece]:
    """Remove pieces one by one, and give each: with ``kept`` where it changed since it was found, so that it stays.

    Files go before what names them, so that what was begun is found and finished the next time.
    """
    for piece in pieces:
        if piece.kept:
            continue
        try:
            kept = _kept_now(client, piece)
            if not kept:
                _remove(client, piece)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            kept = "somebody else removed it meanwhile"
        yield replace(piece, kept=kept)


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


def _kept_now(client: MlflowClient, piece: Piece) -> str:
    """Read anew what a piece was judged by, which may be long ago; say why it stays, empty where it still goes."""
    if piece.kind == "checkpoint":
        return ""
    runs = with_parents(client, piece.run_id)
    run = runs.get(piece.run_id)
    if run is not None and is_of_live_study(client, run, runs):
        return "its study goes on"
    left = list(paged(client.search_model_versions, f"run_id = '{piece.run_id}'", max_results=PAGE))
    if piece.kind != "version":
        over = run is None or run.info.status in (*ENDED, "RUNNING")
        return "its run is finished by now" if not over else needed_by_versions(left, {}).get(piece.run_id, "")
    failed = {piece.run_id: why} if run is not None and (why := why_failed(client, run, runs)) else {}
    again = [found for found in versions_without_model(client, left, runs, failed, {}) if found.name == piece.name]
    return again[0].kept if again else "it is whole by now, or gone"
