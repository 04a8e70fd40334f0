"""A copy of a store leads to the artifacts of the original, which nothing in the copy writes or removes."""

import shutil
import sqlite3

import pytest
from mlflow import MlflowClient

from kdops.cli.app import main
from kdops.errors import KdopsError
from kdops.store.copies import check_own_artifacts
from kdops.sweeps import schema
from tests.conftest import Place


def bare_copy(source, target):
    """Copy a database to the letter, as ``cp`` does."""
    with sqlite3.connect(source) as old, sqlite3.connect(target) as new:
        old.backup(new)
    old.close()
    new.close()


def files(place):
    return {path: path.stat().st_mtime_ns for path in (place.folder / "mlruns").rglob("*")}


@pytest.fixture(params=["tagged", "older", "beside"])
def copied(apart, tmp_path, monkeypatch, request):
    """A store and its copy, which is entered; the store may be of before there was the tag."""
    client = apart.client
    client.set_terminated(client.get_model_version("kdops-digits-student", "2").run_id, "FAILED")
    if request.param == "older":
        client.delete_experiment_tag(client.get_experiment_by_name("kdops").experiment_id, schema.DATABASE)
    if request.param == "beside":
        copy = Place(apart.folder)
        monkeypatch.setattr(Place, "database", property(lambda place: place.folder / "backup.db"))
        bare_copy(apart.folder / "mlflow.db", copy.database)
    else:
        copy = Place(tmp_path / "copy")
        copy.folder.mkdir()
        shutil.copytree(apart.folder / "mlruns", copy.folder / "mlruns")
        bare_copy(apart.database, copy.database)
    return apart, copy.enter(monkeypatch)


def test_nothing_is_removed_or_written_in_a_copy(copied, capsys):
    original, copy = copied
    before = files(original)
    assert main(["gc", "--yes"]) == 1
    told = capsys.readouterr().err
    assert "is a copy" in told
    assert str(original.folder / "mlflow.db") in told
    with pytest.raises(KdopsError, match="is a copy"):
        copy.run("students", seeds=1, temperatures="7")
    assert main(["probe", "kdops-digits-student/3", "--attack", "fgsm", "--images", "5"]) == 1
    assert "is a copy" in capsys.readouterr().err
    assert files(original) == before
    assert main(["runs"]) == 0


def test_a_new_experiment_of_a_copy_is_its_own(copied, monkeypatch):
    original, copy = copied
    before = files(original)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "copied")
    copy.run("teacher", seeds=1)
    experiment = copy.client.get_experiment_by_name("copied")
    check_own_artifacts(copy.client, experiment)
    assert [run.info.status for run in copy.client.search_runs([experiment.experiment_id])] == ["FINISHED"] * 2
    assert {path: when for path, when in files(original).items() if path in before} == before


def test_a_store_that_was_moved_and_one_with_artifacts_elsewhere_are_their_own(apart, tmp_path):
    moved = tmp_path / "moved"
    moved.mkdir()
    apart.database.rename(moved / "mlflow.db")
    client = MlflowClient(f"sqlite:///{moved / 'mlflow.db'}")
    check_own_artifacts(client, client.get_experiment_by_name("kdops"))
