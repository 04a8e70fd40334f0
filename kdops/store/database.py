"""The MLflow store a study writes to: made once, however many processes start at the same time."""

from __future__ import annotations

import hashlib
import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow
from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES
from sqlalchemy.engine import make_url

from kdops.data.cache import user_cache_folder
from kdops.errors import KdopsError, MissingStoreError
from kdops.store.client import client_of
from kdops.store.connections import LOCK_SECONDS, commit_quickly, set_up_connections
from kdops.store.faults import explained_faults, first_line
from kdops.store.tables import check_tables, check_tables_of_server, has_table, has_tables
from kdops.sweeps import schema
from kdops.utils.secrets import redact_password

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Makes the web page show training runs rather than traces."""

CHECKPOINTS = "kdops-checkpoints"
"""The folder beside a local store with the checkpoints of long trainings."""

_MIGRATION_SECONDS = 600.0

logger = logging.getLogger(__name__)


def import_store(tracking_uri: str) -> None:
    """Import what MLflow opens a store with, which it puts off until then: of a database several hundred files."""
    if tracking_uri.startswith(tuple(DATABASE_ENGINES)):
        import mlflow.store.model_registry.sqlalchemy_store
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 - they are imported for later


def ensure_store(tracking_uri: str) -> None:
    """Make sure that the store can be used: a missing sqlite database is created, by one process only.

    A fresh database is built by dozens of migrations, and processes that run them side by side all fail;
    so they take turns at a lock beside the file. A tracking server sees to its own database.

    Raises:
        KdopsError: the store cannot be opened, or MLflow would write its artifacts to another folder.
    """
    database = sqlite_file(tracking_uri)
    if database is None:
        with explained_faults(tracking_uri):
            _check_server(tracking_uri)
        return
    if re.search("""[%?]|'.*"|".*'""", str(database.absolute())):
        why = "MLflow cannot keep artifacts below a path with a %, a ? or both kinds of quotes"
        raise KdopsError(f"the tracking store {database} cannot be used: {why}; use another folder")
    try:
        with explained_faults(tracking_uri):
            _make(tracking_uri, database)
    except OSError as error:
        shown = redact_password(tracking_uri)
        raise KdopsError(f"the tracking store {shown} cannot be used: {first_line(error)}") from error


@contextmanager
def open_existing(uri: str, registry_uri: str | None = None) -> Iterator[MlflowClient]:
    """Open a store for reading, and report in one line what goes wrong with it while it is used.

    Yields a client. A store that is not there is not made.

    Args:
        uri: the tracking store; a sqlite file is named absolutely.
        registry_uri: the model registry, where it is another one.

    Raises:
        MissingStoreError: there is no store.
        KdopsError: it cannot be used.
    """
    shown = redact_password(uri)
    with explained_faults(uri):
        there = _is_there(uri)
    if not there:
        advice = "run a study first, such as kdops main, or say with MLFLOW_TRACKING_URI where the store is"
        raise MissingStoreError(f"there is no store at {shown}; {advice}")
    with explained_faults(uri):
        if registry_uri is not None:
            store_exists(registry_uri)
        for one in filter(None, (uri, registry_uri)):
            if (database := sqlite_file(one)) is not None and database.is_file():
                set_up_connections(one)
        yield client_of(uri, registry_uri)


def _is_there(uri: str) -> bool:
    """Return whether there is something to read; of a server that is taken for granted.

    MLflow would make a missing database and a missing folder, and build its tables in an empty database.
    """
    if uri.startswith("sqlite"):
        database = make_url(uri).database
        if not database or not has_tables(Path(database)):
            return False
        check_tables(Path(database), redact_password(uri))
        return True
    _check_server(uri)
    scheme = urlsplit(uri).scheme
    if scheme in ("", "file"):
        return Path(unquote(urlsplit(uri).path) if scheme else uri).is_dir()
    return True


def _make(tracking_uri: str, database: Path) -> None:
    """Open a database under its lock; one that is not there is made."""
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{database}.lock", timeout=_MIGRATION_SECONDS), _made_whole(database):
            check_tables(database, redact_password(tracking_uri))
            commit_quickly(tracking_uri, database)
            # MLflow keeps the opened store for the whole process, so this is paid once.
            MlflowClient(tracking_uri=tracking_uri).search_experiments(max_results=1)
    except Timeout:
        raise KdopsError(f"{database}.lock is held by another process; is one stuck?") from None


@contextmanager
def _made_whole(database: Path) -> Iterator[None]:
    """Mark a database as unfinished while it is made, and begin anew with one whose maker was killed.

    The migrations commit one by one, and none of them can be run twice: what is left of them can never be opened.
    """
    mark = Path(f"{database}.unfinished")
    if mark.exists() and not _has_runs(database):
        for suffix in ("", "-wal", "-shm"):
            Path(f"{database}{suffix}").unlink(missing_ok=True)
    if not database.exists():
        mark.touch()
    yield
    if mark.exists():
        _fold(database)
        mark.unlink(missing_ok=True)


@contextmanager
def folded_log(tracking_uri: str) -> Iterator[None]:
    """Fold the log of a local database into its file in the end, so that a copy of the file is a copy of the store.

    Where another process writes at that moment, that one folds it at its own end.
    """
    try:
        yield
    finally:
        database = sqlite_file(tracking_uri)
        if database is not None and database.exists():
            _fold(database)


def _fold(database: Path) -> None:
    try:
        with closing(sqlite3.connect(database, timeout=2)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as error:
        logger.debug("the log of %s is not folded in: %s", database, error)


def _has_runs(database: Path) -> bool:
    """Return whether a database has been used already.

    Raises:
        sqlite3.Error: it cannot be read, such as while another process locks it: it is not taken for an empty one.
    """
    with closing(sqlite3.connect(database, timeout=LOCK_SECONDS)) as connection:
        return has_table(connection, "runs") and bool(connection.execute("SELECT 1 FROM runs LIMIT 1").fetchall())


def store_address() -> str:
    """Return the address of the current tracking store."""
    return mlflow.get_tracking_uri()


def writers(tracking_uri: str) -> int:
    """Return how many threads store models the quickest: a local store takes one at a time, a server waits for most."""
    return 8 if tracking_uri.startswith(("http", "postgresql", "mysql", "mssql")) else 1


def registry_address() -> str:
    """Return the address of the current model registry."""
    return mlflow.get_registry_uri()


def store_exists(tracking_uri: str) -> bool:
    """Return whether a store is there; of a server that is taken for granted.

    Raises:
        KdopsError: its tables, or those of the current model registry, are of another MLflow, which opening it would
            change without a word, or cannot be read.
    """
    for uri in dict.fromkeys((tracking_uri, registry_address())):
        with explained_faults(uri):
            if (database := sqlite_file(uri)) is None:
                _check_server(uri)
            else:
                check_tables(database, redact_password(uri))
    database = sqlite_file(tracking_uri)
    return database is None or database.exists()


def _check_server(uri: str) -> None:
    """Refuse a database server with the tables of another MLflow; of anything else nothing is asked."""
    if uri.startswith(tuple(DATABASE_ENGINES)) and not uri.startswith("sqlite"):
        shown = redact_password(uri)
        try:
            check_tables_of_server(uri, shown)
        except ImportError as error:
            raise KdopsError(f"the tracking store {shown} cannot be used: {first_line(error)}") from error


def store_path(name: str) -> Path:
    """Return the path of a file that belongs to the current store: beside its database.

    Beside a server's nothing can be kept; its file lies in the user's cache folder, named by the server too.
    """
    uri = mlflow.get_tracking_uri()
    database = sqlite_file(uri)
    if database is not None:
        return database.absolute().parent / name
    return user_cache_folder() / f"{hashlib.sha256(uri.encode()).hexdigest()[:16]}-{name}"


def ensure_experiment(name: str) -> str:
    """Return the id of an experiment of the current store; create it where it is missing.

    Raises:
        KdopsError: the store cannot be used, or the experiment is deleted.
    """
    tracking_uri = mlflow.get_tracking_uri()
    ensure_store(tracking_uri)
    with explained_faults(tracking_uri):
        client = client_of(tracking_uri)
        found = client.get_experiment_by_name(name)
        if found is None:
            return _create(client, name)
    if found.lifecycle_stage != "active":
        identity = found.experiment_id
        raise KdopsError(
            f"the experiment {name} is deleted; bring it back with: mlflow experiments restore -x {identity}"
        )
    return found.experiment_id


def _create(client: MlflowClient, name: str) -> str:
    database = sqlite_file(client.tracking_uri)
    made_in = {schema.DATABASE: str(database.absolute())} if database else {}
    try:
        return client.create_experiment(name, tags=EXPERIMENT_TAGS | made_in)
    except MlflowException as error:
        # Another process may have been quicker between our question and this call.
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return found.experiment_id


def sqlite_file(tracking_uri: str) -> Path | None:
    """Return the file of a sqlite store, or None for a server and for a database in memory."""
    if not tracking_uri.startswith("sqlite"):
        return None
    database = make_url(tracking_uri).database
    return Path(database) if database and database != ":memory:" else None
