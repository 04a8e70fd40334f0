"""What failed studies left is found and removed, and nothing else."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from kdops.cli import main
from kdops.errors import KdopsError
from kdops.garbage import find_garbage
from kdops.process import ProcessName
from kdops.store import CHECKPOINTS

TEACHER, STUDENT = "kdops-digits-teacher", "kdops-digits-student"
NAMES = (TEACHER, STUDENT)


def found(place):
    experiment = place.client.get_experiment_by_name("kdops").experiment_id
    return find_garbage(place.client, experiment, place.folder / CHECKPOINTS)


def kinds(place):
    return sorted(piece.kind for piece in found(place))


def whole(place):
    """Give all that must stay: finished runs, versions, and the files of their models."""
    versions = {
        (v.name, str(v.version)) for name in NAMES for v in place.client.search_model_versions(f"name = '{name}'")
    }
    runs = {run.info.run_id for run in place.runs() if run.info.status == "FINISHED"}
    owned = {run.outputs.model_outputs[0].model_id for run in place.children() if run.info.status == "FINISHED"}
    files = {
        p: p.stat().st_size for model in owned for p in place.folder.rglob(f"{model}/artifacts/**/*") if p.is_file()
    }
    return versions, runs, files


@pytest.fixture
def failed(apart, monkeypatch):
    """A study failed as the second of its three new students was about to be registered."""
    real, calls = MlflowClient.create_model_version, []

    def call(*args, **named):
        calls.append(None)
        if len(calls) == 2:
            raise OSError("no room left")
        return real(*args, **named)

    monkeypatch.setattr(MlflowClient, "create_model_version", call)
    with pytest.raises(OSError, match="no room left"):
        apart.run("students", seeds=1, temperatures="2,3,5")
    return apart


def test_a_failed_model_is_listed_first_and_then_removed_with_its_files(failed, capsys):
    before = whole(failed)
    run = next(run for run in failed.children() if run.info.status == "FAILED")
    pieces = {piece.kind: piece for piece in found(failed)}
    # The study itself marked the model as deleted; its files are still there.
    assert pieces.keys() == {"files", "run"}
    folder = Path(pieces["files"].name)
    assert folder not in {place.parent for place in before[2]}
    assert run.info.run_id in (folder / "MLmodel").read_text()
    assert pieces["files"].size == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert pieces["run"].name == run.info.run_id

    assert main(["gc"]) == 0
    told = capsys.readouterr().out
    assert "Nothing was removed; kdops gc --yes removes it." in told
    assert whole(failed) == before
    assert folder.is_dir()

    assert main(["gc", "--yes"]) == 0
    assert "Removed 1 run, 1 files: " in capsys.readouterr().out
    assert not folder.parent.exists()
    assert whole(failed) == before
    assert failed.client.get_run(run.info.run_id).info.lifecycle_stage == "deleted"
    assert main(["gc", "--yes"]) == 0
    assert capsys.readouterr().out == "Failed studies left nothing that can be removed.\n"
    # What was removed is trained again by the same command, and what is there is used.
    failed.run("students", seeds=1, temperatures="2,3,5")
    assert found(failed) == []


def test_nothing_of_a_live_study_is_touched(failed):
    study = next(run for run in failed.studies() if run.info.status == "FAILED")
    assert kinds(failed) == ["files", "run"]
    failed.client.update_run(study.info.run_id, status="RUNNING")
    assert kinds(failed) == []
    # Once its process is surely gone, it is no longer alive, whatever its run says.
    gone = replace(ProcessName.own(), boot=ProcessName.own().boot - 3600)
    failed.client.set_tag(study.info.run_id, "kdops.process", str(gone))
    assert kinds(failed) == ["files", "run"]


def test_versions_without_files_go_and_are_trained_again(apart, capsys):
    client = apart.client
    before = whole(apart)
    lost = client.get_model_version(STUDENT, "2")
    kept = client.get_model_version(STUDENT, "3")
    for version, alias in ((lost, ""), (kept, "production")):
        location = Path(client.get_logged_model(version.source.rpartition("/")[2]).artifact_location)
        location.rename(location.with_name("elsewhere"))
        if alias:
            client.set_registered_model_alias(STUDENT, alias, version.version)
    versions = {piece.name: piece for piece in found(apart) if piece.kind == "version"}
    assert {name: piece.why for name, piece in versions.items()} == dict.fromkeys(
        [f"{STUDENT}/2", f"{STUDENT}/3"], "its files are gone"
    )
    assert "production" in versions[f"{STUDENT}/3"].kept
    assert main(["gc", "--yes"]) == 0
    assert "stays: it is production" in capsys.readouterr().out
    assert before[0] - whole(apart)[0] == {(STUDENT, "2")}
    again = apart.run("students", seeds=1)
    (child,) = apart.children(again)
    assert (child.data.params["temperature"], child.data.tags["kdops.model"]) == ("1", f"models:/{STUDENT}/4")


def test_a_store_of_artifacts_that_is_not_there_loses_nothing(apart, capsys):
    before = whole(apart)[:2]
    (apart.folder / "mlruns").rename(apart.folder / "unmounted")
    (apart.folder / "mlruns").mkdir()
    with pytest.raises(KdopsError, match="is it mounted"):
        found(apart)
    assert main(["gc", "--yes"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert whole(apart)[:2] == before


def test_only_old_checkpoints_go(apart):
    folder = apart.folder / CHECKPOINTS
    folder.mkdir()
    for name, days in (("old.safetensors", 8), ("new.safetensors", 6), ("old.tmp", 8)):
        (folder / name).write_bytes(b"12345")
        then = time.time() - days * 86400
        os.utime(folder / name, (then, then))
    assert [(Path(p.name).name, p.size) for p in found(apart)] == [("old.safetensors", 5), ("old.tmp", 5)]
    assert main(["gc", "--yes"]) == 0
    assert [path.name for path in folder.iterdir()] == ["new.safetensors"]


def test_runs_of_others_and_results_of_a_search_are_left_alone(apart):
    client = apart.client
    mine = client.get_experiment_by_name("kdops").experiment_id
    others = client.create_experiment("others", str(apart.folder / "others"))
    role = {"kdops.study": "search", "kdops.role": "student"}
    for experiment, tags, status in (
        (others, role, "FAILED"),
        (mine, {}, "FAILED"),
        (mine, {**role, "kdops.trial": "1", "kdops.trial_state": "pruned"}, "KILLED"),
        (mine, {**role, "kdops.trial": "2", "kdops.trial_state": "failed"}, "FAILED"),
        (mine, {"kdops.study": "students"}, "FAILED"),
    ):
        client.set_terminated(client.create_run(experiment, tags=tags).info.run_id, status)
    client.create_logged_model(mine, name="theirs")
    assert found(apart) == []
    cut = client.create_run(mine, tags={**role, "kdops.trial": "3", "kdops.trial_state": "running"}).info.run_id
    client.set_terminated(cut, "KILLED")
    assert [(piece.kind, piece.name) for piece in found(apart)] == [("run", cut)]


def test_files_of_a_failed_model_that_was_only_marked_deleted_are_found(failed):
    (files,) = [piece for piece in found(failed) if piece.kind == "files"]
    done = next(run for run in failed.children() if run.info.status == "FINISHED")
    # Of a finished run the files stay, even where its model was marked by hand.
    failed.client.delete_logged_model(done.outputs.model_outputs[0].model_id)
    assert [piece.name for piece in found(failed) if piece.kind == "files"] == [files.name]
    assert main(["gc", "--yes"]) == 0
    assert not Path(files.name).exists()
    assert "files" not in kinds(failed)
