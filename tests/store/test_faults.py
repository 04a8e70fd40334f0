"""Faults of the store, the disk and the memory, injected for real: one line, exit code 1, and a store that goes on."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from kdops.cli.app import main
from kdops.errors import KdopsError
from kdops.store import tables
from kdops.store.tables import other_version
from tests.conftest import Place, copy_database

ROOT = Path(__file__).resolve().parents[2]
STUDENT = "kdops-digits-student"
SMALL = ["--seeds", "1", "--epochs", "teacher=2,student=3"]

LIMITED = """
import resource, runpy, sys
{limit}
sys.argv = ["students", *sys.argv[1:]]
runpy.run_module("pipelines.students", run_name="__main__")
"""


def students(place, *options, limit="", **changes):
    """Run a study in a process of its own; give its exit code and what it wrote to stderr."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **changes}
    told = subprocess.run(
        [sys.executable, "-c", LIMITED.format(limit=limit), *SMALL, *options],
        env=environment,
        cwd=place.folder,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert "Traceback" not in told.stderr, told.stderr
    return told.returncode, told.stderr.splitlines()


def said(capsys, *arguments):
    """Run a command that fails; give its one line."""
    capsys.readouterr()
    assert main(list(arguments)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def files_of(place, version, name=STUDENT):
    source = place.client.get_model_version(name, version).source.rpartition("/")[2]
    return Path(place.client.get_logged_model(source).artifact_location)


def flip(path, place=-1):
    """Turn one bit over, which changes neither the size nor the structure of a file."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


# The tables


def revise(place, revision):
    with sqlite3.connect(place.database) as database:
        database.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    database.close()


PLANS = {
    "teacher": {},
    "students": {"source": "models:/kdops-digits-teacher/1"},
    "search": {"trials": 2, "space": "hidden=8"},
    "ensemble": {},
}


@pytest.mark.parametrize(
    ("revision", "told"),
    [("ffffffffffff", "a newer MLflow than"), ("0584bdc529eb", "an older MLflow than")],
)
def test_tables_of_another_version_are_left_as_they_are(apart, capsys, revision, told):
    with sqlite3.connect(apart.database) as database:
        ((now,),) = database.execute("SELECT version_num FROM alembic_version").fetchall()
        # As an older store would: MLflow takes a missing table for a reason to migrate without a word.
        database.execute("ALTER TABLE jobs RENAME TO put_away")
    database.close()
    revise(apart, revision)
    line = said(capsys, "runs")
    assert f"the tracking store {apart.uri} cannot be used: {told}" in line
    assert ("mlflow db upgrade" in line) == (revision != "ffffffffffff")
    with pytest.raises(KdopsError, match=told):
        apart.run("students", seeds=1)
    # Every way in looks first: nothing opens such a store, not even to plan.
    for entry_point, given in PLANS.items():
        with pytest.raises(KdopsError, match=told):
            apart.plan(entry_point, seeds=1, **given)
        with pytest.raises(KdopsError, match=told):
            apart.run(entry_point, seeds=1, **given)
    with sqlite3.connect(apart.database) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [(revision,)]
        database.execute("ALTER TABLE put_away RENAME TO jobs")
    database.close()
    revise(apart, now)
    assert other_version(now) == ""
    assert main(["runs"]) == 0


@pytest.mark.parametrize("entry_point", PLANS)
def test_a_registry_of_another_version_is_left_as_it_is(apart, tmp_path, monkeypatch, entry_point):
    registry = Place(tmp_path / "registry")
    registry.folder.mkdir()
    copy_database(apart.database, registry.database)
    with sqlite3.connect(registry.database) as database:
        database.execute("ALTER TABLE jobs RENAME TO put_away")
    database.close()
    revise(registry, "0584bdc529eb")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", registry.uri)
    before = registry.database.read_bytes()
    for do in (apart.plan, apart.run):
        with pytest.raises(KdopsError, match="an older MLflow than"):
            do(entry_point, seeds=1, **PLANS[entry_point])
    assert registry.database.read_bytes() == before


@pytest.mark.parametrize("variable", ["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"])
def test_tables_of_another_version_on_a_database_server_are_left_as_they_are(
    apart, tmp_path, capsys, monkeypatch, variable
):
    """Only the check connects to it, so that a file may stand for it."""
    server = Place(tmp_path / "server")
    server.folder.mkdir()
    copy_database(apart.database, server.database)
    revise(server, "0584bdc529eb")
    local = create_engine(server.uri)
    monkeypatch.setattr(tables, "create_engine", lambda uri, **_: local)
    monkeypatch.setenv(variable, f"postgresql://me:secret@host/{variable}")
    told = f"postgresql://me:***@host/{variable} cannot be used: an older MLflow than"
    assert told in said(capsys, "runs")
    for do in (apart.plan, apart.run):
        with pytest.raises(KdopsError, match=re.escape(told)):
            do("students", seeds=1)
    local.dispose()


def test_the_newest_tables_are_known_by_the_text_of_the_migrations():
    """It spares alembic's run of them all, and must give what that gives."""
    folder = files("mlflow.store.db_migrations")
    assert tables._newest(folder) == ScriptDirectory(str(folder)).get_current_head()


# Files of models

slow = pytest.mark.slow


@pytest.mark.parametrize(
    "fault",
    [
        "flipped",
        pytest.param("truncated", marks=slow),
        pytest.param("gone", marks=slow),
        pytest.param("all gone", marks=slow),
    ],
)
def test_a_source_whose_files_are_not_what_was_stored_is_not_learned_from(apart, fault):
    folder = files_of(apart, "1", "kdops-digits-teacher")
    weights = folder / "weights.safetensors"
    if fault == "flipped":
        flip(weights)
    elif fault == "truncated":
        weights.write_bytes(weights.read_bytes()[:-7])
    elif fault == "gone":
        weights.unlink()
    else:
        shutil.rmtree(folder)
    what = "are gone from" if fault == "all gone" else "are damaged"
    with pytest.raises(KdopsError, match=f"the files of models:/kdops-digits-teacher/1 {what}"):
        apart.run("students", seeds=1, temperatures="9")
    failed = apart.studies()[0]
    assert failed.info.status == "FAILED"
    assert "models:/kdops-digits-teacher/1" in failed.data.tags["kdops.error"]
    assert "kdops.verdict" not in failed.data.tags
    note = failed.data.tags["mlflow.note.content"]
    assert "It has 1 x teacher (seed 0), 1 x student (seed 0), which stay" in note
    assert "It lacks 1 x teacher\\>student (T = 9 of seed 0)" in note
    # The advice: without the version the next study trains the model again.
    apart.client.delete_model_version("kdops-digits-teacher", "1")
    assert apart.run("students", seeds=1, temperatures="9").info.status == "FINISHED"


def test_damaged_weights_are_found_wherever_they_are_read(apart, capsys, tmp_path):
    import mlflow
    import numpy as np
    from PIL import Image

    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "x.png")
    program, weights = (files_of(apart, version) for version in ("1", "2"))
    flip(program / "data" / "model.pt2", 400)
    flip(weights / "weights.safetensors")
    for version, name in (("1", "model.pt2"), ("2", "weights.safetensors")):
        uri = f"{STUDENT}/{version}"
        for command in (
            ["predict", uri, str(tmp_path / "x.png")],
            ["export", uri, "--format", "pt2", "--output", str(tmp_path / "out.pt2")],
            ["promote", uri],
        ):
            line = said(capsys, *command)
            assert "are damaged, so it is not used" in line
            assert name in line
        with pytest.raises(Exception, match=r"is damaged, so it is not served"):
            mlflow.pyfunc.load_model(f"models:/{uri}")
        with pytest.raises(KdopsError, match="are damaged"):
            apart.run("students", source=f"models:/{uri}", seeds=1)
    assert not (tmp_path / "out.pt2").exists()
    assert main(["candidates"]) == 0  # the third of this architecture is sound
    assert main(["predict", f"{STUDENT}/3", str(tmp_path / "x.png")]) == 0
    with pytest.raises(KdopsError, match="are damaged"):
        apart.run("ensemble", model=f"models:/{STUDENT}/2,models:/{STUDENT}/3", seeds="all", controls="false")


# Servers


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (403, "Permission denied", "permission was refused"),
        (401, "You are not authenticated.", "it does not know who you are"),
        (None, "", "its server does not answer"),
    ],
)
def test_a_server_that_refuses_is_one_line(nowhere, monkeypatch, capsys, status, body, told):
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        address = f"http://ada:secret@127.0.0.1:{server.server_port}"
        if status is None:
            server.server_close()
        else:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        for command in (["runs"], ["gc", "--yes"], ["promote", f"{STUDENT}/1"], ["rollback", STUDENT]):
            line = said(capsys, *command)
            assert told in line
            assert "secret" not in line
        if status is not None:
            server.shutdown()


# Room, rights, memory


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_full_disk_ends_in_one_line_and_the_study_goes_on_once_there_is_room(apart, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        place = type(apart)(disk)
        code, err = students(place, "--temperatures", "1", MLFLOW_TRACKING_URI=place.uri)
        assert code == 0, err
        for kept in (400_000, 30_000):
            (disk / "fill").write_bytes(b"0" * (shutil.disk_usage(disk).free - kept))
            code, err = students(place, "--temperatures", "1-12", MLFLOW_TRACKING_URI=place.uri)
            assert code == 1, err
            assert "there is no room left on the disk" in err[-1]
            (disk / "fill").unlink()
        code, err = students(place, "--temperatures", "1-12", MLFLOW_TRACKING_URI=place.uri)
        assert code == 0, err
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_a_file_that_may_not_grow_is_a_full_disk(apart):
    # Above the size of the database, below that of the weights of 20,000 hidden units.
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))"
    code, err = students(apart, "--temperatures", "9", "--student", "mlp(hidden=20000)", limit=limit)
    assert code == 1
    assert "no room left on the disk" in err[-1]
    code, err = students(apart, "--temperatures", "9")
    assert code == 0, err


@pytest.mark.slow
def test_a_store_that_can_only_be_read(apart):
    mount = ["mount", "--bind", str(apart.folder), str(apart.folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a folder cannot be mounted read-only here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(apart.folder)], check=True)
        code, err = students(apart, "--temperatures", "9")
        assert code == 1
        assert "it can only be read" in err[-1]
    finally:
        subprocess.run(["umount", str(apart.folder)], check=True)
    code, err = students(apart, "--temperatures", "9")
    assert code == 0, err


@pytest.mark.slow
def test_too_little_memory_is_told(apart):
    # What the study imports comes first: the limit is to meet the training alone.
    limit = (
        "import psutil, sklearn.datasets, mlflow.pytorch, kdops.study; used = psutil.Process().memory_info().vms; "
        "resource.setrlimit(resource.RLIMIT_AS, (used + 1_000_000_000, used + 1_000_000_000))"
    )
    code, err = students(apart, "--temperatures", "1-200", "--student", "mlp(hidden=20000)", limit=limit)
    assert code == 1
    assert "there is not enough memory" in err[-1]
    code, err = students(apart, "--temperatures", "9")
    assert code == 0, err
