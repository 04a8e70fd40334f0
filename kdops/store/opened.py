"""Opens a store for reading: one that is not there is not made."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow import MlflowClient
from sqlalchemy.engine import make_url

from kdops.errors import KdopsError
from kdops.store.database import client_of
from kdops.store.faults import explained_faults
from kdops.store.schema import check_tables
from kdops.utils.secrets import redact_password

__all__ = ["open_existing"]


@contextmanager
def open_existing(uri: str, registry_uri: str | None = None) -> Iterator[MlflowClient]:
    """Return a client of a store, and tell in one line what goes wrong with the store while it is used.

    Args:
        uri: the tracking store; a sqlite file is named absolutely.
        registry_uri: the model registry, where it is another one.

    Raises:
        KdopsError: there is no store, or it cannot be used.
    """
    shown = redact_password(uri)
    if not _is_there(uri):
        advice = "run a study first, such as kdops main, or say with MLFLOW_TRACKING_URI where the store is"
        raise KdopsError(f"there is no store at {shown}; {advice}")
    with explained_faults(uri):
        yield client_of(uri, registry_uri)


def _is_there(uri: str) -> bool:
    """Return whether there is something to read; of a server that is taken for granted.

    MLflow would make a missing database and a missing folder, and build its tables in an empty database.
    """
    if uri.startswith("sqlite"):
        database = make_url(uri).database
        if not database or not _has_tables(Path(database)):
            return False
        check_tables(Path(database), redact_password(uri))
        return True
    scheme = urlsplit(uri).scheme
    if scheme in ("", "file"):
        return Path(unquote(urlsplit(uri).path) if scheme else uri).is_dir()
    return True


def _has_tables(database: Path) -> bool:
    if not database.is_file():
        return False
    try:
        with closing(sqlite3.connect(database, timeout=60)) as connection:
            query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'experiments'"
            return connection.execute(query).fetchone() is not None
    except sqlite3.Error as error:
        raise KdopsError(f"{database} is no sqlite database: {error}") from error
