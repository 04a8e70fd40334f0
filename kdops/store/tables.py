"""The tables of a store: of the MLflow that runs here, or of an older or newer one."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.pool import NullPool

from kdops.errors import KdopsError
from kdops.store.connections import LOCK_SECONDS

REVISIONS_TABLE = "alembic_version"
REVISIONS = f"SELECT version_num FROM {REVISIONS_TABLE}"
REVISION = re.compile(r"""^revision\s*=\s*["'](\w+)["']""", re.MULTILINE)
BEFORE = re.compile(r"""^down_revision\s*=\s*["'](\w+)["']""", re.MULTILINE)


def check_tables(database: Path, shown: str) -> None:
    """Refuse a sqlite store whose tables are not of this MLflow, before MLflow changes them without asking.

    Args:
        database: the file; one without tables is left to MLflow. A lock of another process is waited for.
        shown: the store as messages name it.

    Raises:
        KdopsError: they are older, or newer.
        sqlite3.Error: they cannot be read: the file is locked, damaged or no database. Nothing may be done with it.
    """
    if not database.is_file():
        return
    address = f"{database.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=LOCK_SECONDS)) as connection:
        found = connection.execute(REVISIONS).fetchall() if has_table(connection, REVISIONS_TABLE) else []
    _check([str(revision) for (revision,) in found], shown)


@cache
def check_tables_of_server(uri: str, shown: str) -> None:
    """Refuse the store of a database server as :func:`check_tables` does a file; each is asked once in a process.

    Args:
        uri: the database; one without tables is left to MLflow.
        shown: the store as messages name it.

    Raises:
        KdopsError: its tables are older, or newer.
        ImportError: its driver is not installed.
        SQLAlchemyError: its tables cannot be read, such as while it does not answer. Nothing may be done with it.
    """
    with create_engine(uri, poolclass=NullPool).connect() as connection:
        there = inspect(connection).has_table(REVISIONS_TABLE)
        found = [str(revision) for revision in connection.execute(text(REVISIONS)).scalars()] if there else []
    _check(found, shown)


def _check(revisions: list[str], shown: str) -> None:
    for revision in revisions:
        if problem := other_version(revision):
            raise KdopsError(f"the tracking store {shown} cannot be used: {problem}")


def has_tables(database: Path) -> bool:
    """Return whether a file is a database with the tables of an MLflow store.

    Raises:
        KdopsError: it is no sqlite database.
        sqlite3.Error: it cannot be read, such as while another process locks it.
    """
    if not database.is_file():
        return False
    try:
        with closing(sqlite3.connect(database, timeout=LOCK_SECONDS)) as connection:
            return has_table(connection, "experiments")
    except sqlite3.Error as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
            raise
        raise KdopsError(f"{database} is no sqlite database: {error}") from error


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    """Return whether a sqlite database has a table."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (name,)).fetchone() is not None


def other_version(revision: str) -> str:
    """Return what is to be done about tables of another version of MLflow; empty where they are of this one.

    Args:
        revision: of the tables, as they name it themselves.
    """
    folder = files("mlflow.store.db_migrations")
    if revision == _newest(folder):
        return ""
    scripts = ScriptDirectory(str(folder))
    if revision == scripts.get_current_head():
        return ""
    here = version("mlflow")
    try:
        scripts.get_revision(revision)
    except CommandError:
        return (
            f"a newer MLflow than {here} made its tables ({revision}); install that version here, or name another store"
        )
    return (
        f"an older MLflow than {here} made its tables ({revision}); make a backup, then run: mlflow db upgrade, "
        "with the address of the store"
    )


def _newest(folder: Traversable) -> str:
    """Return the newest revision by the text of MLflow's migrations; empty where it cannot be read from it.

    Alembic runs all the migrations' files to find it, which takes a third of a second.
    """
    texts = [file.read_text(encoding="utf-8") for file in (folder / "versions").iterdir() if file.name.endswith(".py")]
    made, before = ([m[1] for text in texts for m in one.finditer(text)] for one in (REVISION, BEFORE))
    newest = set(made) - set(before)
    # One that is written in another way would be overlooked, and the one before it taken for the newest.
    is_all = len(made) == len([text for text in texts if "revision" in text])
    return newest.pop() if is_all and len(newest) == 1 else ""
