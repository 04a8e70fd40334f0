"""The local store: made whole, whoever is killed while it is made."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from kdops.store import connections, database

ROOT = Path(__file__).resolve().parents[2]

CODE = """
import os, signal, sys
from sqlalchemy.engine.default import DefaultDialect
from kdops.store.database import ensure_store

left, real = [int(sys.argv[2])], DefaultDialect.do_execute

def counted(*arguments, **named):
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **named)

DefaultDialect.do_execute = counted
ensure_store(sys.argv[1])
"""


def make(database, statements):
    """Make a store in a process that is killed at its n-th statement; give its exit code and errors."""
    command = [sys.executable, "-c", CODE, f"sqlite:///{database}", str(statements)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800)
    return done.returncode, done.stderr


@pytest.mark.slow
def test_a_store_whose_maker_was_killed_is_made_anew(tmp_path):
    database = tmp_path / "mlflow.db"
    assert make(database, 300)[0] == -9
    assert database.exists()
    code, told = make(database, -1)
    assert code == 0, told
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT name FROM experiments").fetchall() == [("Default",)]
    connection.close()
    assert [path.name for path in tmp_path.glob("*.unfinished")] == []


@pytest.mark.parametrize("runs", [0, 1])
def test_a_store_that_was_used_is_never_made_anew(runs, empty_database, tmp_path, monkeypatch):
    from kdops.store.database import ensure_store
    from tests.conftest import Place, copy_database

    place = Place(tmp_path)
    copy_database(empty_database, place.database)
    place.enter(monkeypatch)
    for _ in range(runs):
        place.client.create_run("0")
    # Its maker was killed as the last thing of all.
    Path(f"{place.database}.unfinished").touch()
    before = place.database.stat().st_ino
    if runs:
        ensure_store(place.uri)
        assert len(place.client.search_runs(["0"])) == 1
        assert place.database.stat().st_ino == before
    else:
        from kdops.store.database import _made_whole

        with _made_whole(place.database):
            assert not place.database.exists()


@pytest.mark.parametrize("fails", [False, True])
def test_after_a_study_the_file_of_the_database_is_the_whole_store(fails, store, monkeypatch):
    from mlflow import MlflowClient

    from kdops.errors import KdopsError

    if fails:
        monkeypatch.setattr(
            "kdops.study.study.Study.conclude", lambda *_, **__: (_ for _ in ()).throw(KdopsError("no"))
        )
    with pytest.raises(KdopsError, match="no") if fails else nullcontext():
        store.run("students", seeds=1, temperatures=1)
    copied = store.folder / "copy.db"
    shutil.copyfile(store.database, copied)
    client = MlflowClient(tracking_uri=f"sqlite:///{copied}")
    experiment = client.get_experiment_by_name("kdops").experiment_id
    found, known = (one.search_runs([experiment]) for one in (client, store.client))
    assert [run.to_dictionary() for run in found] == [run.to_dictionary() for run in known]
    assert len(found) > 1


def test_a_store_that_was_just_made_is_whole_without_its_log(tmp_path):
    from kdops.store.database import ensure_store

    database = tmp_path / "mlflow.db"
    ensure_store(f"sqlite:///{database}")
    copied = tmp_path / "copy.db"
    shutil.copyfile(database, copied)
    with sqlite3.connect(copied) as connection:
        assert connection.execute("SELECT name FROM experiments").fetchall() == [("Default",)]
    connection.close()


def patience(uri):
    """Return the seconds for which each engine of a store waits in a session of MLflow's, which sets 20."""
    for engine in connections.engines_of(uri):
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA busy_timeout = 20000;")
            yield connection.exec_driver_sql("PRAGMA busy_timeout").fetchone()[0] / 1000


def test_a_lock_of_two_minutes_is_waited_for(store):
    """A backup may take longer than MLflow waits."""
    database.ensure_store(store.uri)
    assert [*patience(store.uri)] == [120, 120]


def test_what_reads_promotes_and_removes_waits_as_long(store, tmp_path):
    database.ensure_store(store.uri)
    copied = [tmp_path / "runs.db", tmp_path / "models.db"]
    for path in copied:  # this process has not opened them before
        shutil.copyfile(store.database, path)
    uris = [f"sqlite:///{path}" for path in copied]
    with database.open_existing(*uris):
        assert [*patience(uris[0]), *patience(uris[1])] == [120] * 4
