"""How MLflow's connections to a local database are set up: commits to a log, and patience with locks."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import event
from sqlalchemy.engine import Engine

LOCK_SECONDS = 120.0
"""So long another process, such as a backup, may lock a database before what waits for it fails."""


def commit_quickly(tracking_uri: str, database: Path) -> None:
    """Let a database that is made here append its commits to a log, and sync that log only now and then.

    MLflow commits a dozen times for one logged model, and each commit waits for the disk several times: that is
    most of what tracking costs. With the log (the file's property from then on) a killed process loses nothing,
    readers no longer wait for writers, and after a power failure the last commits may be missing, never torn.
    """
    if not database.exists():
        with closing(sqlite3.connect(database, timeout=LOCK_SECONDS)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    set_up_connections(tracking_uri)


def set_up_connections(tracking_uri: str) -> None:
    """Let this process wait for locks of a local database longer than MLflow does, and sync a log now and then."""
    for engine in engines_of(tracking_uri):
        if not event.contains(engine, "connect", _sync_now_and_then):
            event.listen(engine, "connect", _sync_now_and_then)
            event.listen(engine, "before_cursor_execute", _wait_longer, retval=True)
            engine.dispose()  # MLflow connected when it made the engine; the next connection is set up as it should be


def engines_of(tracking_uri: str) -> list[Engine]:
    """Return the two engines, of runs and of models, that MLflow uses for an address all through this process.

    ``_get_or_create_engine`` is private to MLflow (seen in 3.17.2). Where it is missing commits are only slower.
    """
    from mlflow.store.model_registry import sqlalchemy_store as models
    from mlflow.store.tracking import sqlalchemy_store as runs

    makers = (getattr(stores.SqlAlchemyStore, "_get_or_create_engine", None) for stores in (runs, models))
    return [make(tracking_uri) for make in makers if make is not None]


def _sync_now_and_then(connection: sqlite3.Connection, _: object) -> None:
    # Only beside the log is NORMAL safe; a database that others made without one keeps its full sync.
    if connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
        connection.execute("PRAGMA synchronous=NORMAL")


def _wait_longer(
    connection: object, cursor: object, statement: str, parameters: object, context: object, executemany: bool
) -> tuple[str, object]:
    """Wait for a lock longer than the 20 seconds that MLflow sets for each of its sessions."""
    if statement.startswith("PRAGMA busy_timeout ="):
        statement = f"PRAGMA busy_timeout = {int(1000 * LOCK_SECONDS)}"
    return statement, parameters
