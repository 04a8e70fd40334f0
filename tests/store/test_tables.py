"""The check of a store's tables: never passed over where they cannot be read; on a real database server too."""

import re
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from kdops.errors import KdopsError
from kdops.store import database, tables
from tests.servers import postgres, skip_without_postgres
from tests.store.test_faults import revise, said

OLDER = "0584bdc529eb"
GIVEN = {"source": "models:/kdops-digits-teacher/1"}


@contextmanager
def locked(path: Path):
    """Lock a database as a backup of a store without a log does: nobody may even read it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.rollback()


@pytest.fixture
def older(apart):
    """A store that MLflow would migrate as soon as it opened it."""
    with closing(sqlite3.connect(apart.database)) as connection:
        connection.execute("ALTER TABLE jobs RENAME TO put_away")
        connection.commit()
    revise(apart, OLDER)
    return apart


def ways_in(place):
    yield place.plan
    yield place.run


def test_a_store_that_stays_locked_is_not_opened_unchecked(older, capsys, monkeypatch):
    monkeypatch.setattr(tables, "LOCK_SECONDS", 0.1)
    told = f"the tracking store {older.uri} cannot be used: another process holds it (database is locked); wait for"
    with locked(older.database):
        before = older.database.read_bytes()
        assert told in said(capsys, "runs")
        assert told in said(capsys, "gc")
        for do in ways_in(older):
            with pytest.raises(KdopsError, match=re.escape(told)):
                do("students", seeds=1, **GIVEN)
        assert older.database.read_bytes() == before


def test_a_lock_is_waited_for_and_then_the_tables_are_checked(older, capsys):
    held, done = threading.Event(), threading.Event()

    def hold():
        with locked(older.database):
            held.set()
            done.wait(600)

    # It is released in the middle of the check, which is there by then or comes later.
    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(60)
    releaser = threading.Timer(2, done.set)
    releaser.start()
    assert "an older MLflow than" in said(capsys, "runs")
    assert done.is_set()
    for one in (holder, releaser):
        one.join()


def test_a_registry_that_stays_locked_is_not_opened_unchecked(apart, older, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "LOCK_SECONDS", 0.1)
    registry = tmp_path / "registry.db"
    registry.write_bytes(older.database.read_bytes())
    with closing(sqlite3.connect(older.database)) as connection:
        connection.execute("ALTER TABLE put_away RENAME TO jobs")
        connection.commit()
    revise(older, tables_now())
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{registry}")
    with locked(registry):
        for do in ways_in(older):
            with pytest.raises(KdopsError, match=re.escape(f"{registry} cannot be used: another process holds it")):
                do("students", seeds=1, **GIVEN)


def tables_now() -> str:
    from importlib.resources import files

    return tables._newest(files("mlflow.store.db_migrations"))


def test_a_locked_database_is_not_taken_for_an_unfinished_one(apart, monkeypatch):
    """With the mark of a maker that was killed as the last thing of all, an empty database is made anew."""
    monkeypatch.setattr(database, "LOCK_SECONDS", 0.1)
    Path(f"{apart.database}.unfinished").touch()
    with locked(apart.database):
        inode = apart.database.stat().st_ino
        with pytest.raises(KdopsError, match="another process holds it"):
            database.ensure_store(apart.uri)
        assert apart.database.stat().st_ino == inode
    database.ensure_store(apart.uri)
    assert apart.studies()


def test_a_file_that_is_no_database_stays_as_it_is(nowhere, capsys):
    nowhere.database.write_text("a note of mine, and no database\n" * 100)
    assert "is no sqlite database" in said(capsys, "runs")
    for do in ways_in(nowhere):
        with pytest.raises(KdopsError, match="its file is damaged"):
            do("students", seeds=1)
    assert nowhere.database.read_text().startswith("a note of mine")


def test_an_empty_database_is_filled(nowhere):
    nowhere.database.touch()
    assert database.store_exists(nowhere.uri)
    assert not tables.has_tables(nowhere.database)
    database.ensure_store(nowhere.uri)
    assert tables.has_tables(nowhere.database)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"])
def test_tables_of_another_version_on_postgresql_are_left_as_they_are(apart, capsys, monkeypatch, variable):
    skip_without_postgres()
    import psycopg2
    from mlflow import MlflowClient

    with postgres(("mlflow",)) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        uri = f"postgresql+psycopg2://mlflow:{environment['PGPASSWORD']}@127.0.0.1:{environment['PGPORT']}/mlflow"
        shown = uri.replace(environment["PGPASSWORD"], "***")

        def ask(*statements):
            with closing(psycopg2.connect(dbname="mlflow")) as connection, connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                connection.commit()
                return cursor.fetchall()

        listed = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1"
        monkeypatch.setenv(variable, uri)
        # A database without tables is left to MLflow, which makes them; those of this version are used.
        database.store_exists(uri)
        assert ask(listed) == []
        database.ensure_store(uri)
        MlflowClient(uri, uri).search_registered_models()
        assert ("jobs",) in ask(listed)
        tables.check_tables_of_server.cache_clear()
        assert database.store_exists(uri)

        change = (f"UPDATE alembic_version SET version_num = '{OLDER}'", "ALTER TABLE jobs RENAME TO put_away")
        before = ask(*change, listed)
        tables.check_tables_of_server.cache_clear()
        told = f"the tracking store {shown} cannot be used: an older MLflow than"
        assert told in said(capsys, "runs")
        for do in ways_in(apart):
            with pytest.raises(KdopsError, match=re.escape(told)):
                do("students", seeds=1)
        assert ask(listed) == before
        assert ask("SELECT version_num FROM alembic_version") == [(OLDER,)]

    # Away it cannot be checked, and MLflow, which tries again for two minutes, is not left alone with it.
    started = time.monotonic()
    assert f"the tracking store {shown} cannot be used: its server does not answer" in said(capsys, "runs")
    for do in ways_in(apart):
        with pytest.raises(KdopsError, match="its server does not answer"):
            do("students", seeds=1)
    assert time.monotonic() - started < 60
