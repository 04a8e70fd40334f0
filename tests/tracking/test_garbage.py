"""What failed studies left is found and removed, and nothing else."""

import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from kdops.cli.app import main
from kdops.errors import KdopsError
from kdops.store.database import CHECKPOINTS
from kdops.sweeps.schema import CHAMPION
from kdops.tracking.garbage import _without_many_missing, find_garbage, remove_garbage
from kdops.tracking.garbage_rules import GONE, Piece
from kdops.utils.process import ProcessId

TEACHER, STUDENT = "kdops-digits-teacher", "kdops-digits-student"
NAMES = (TEACHER, STUDENT)


def found(place, missing_files=True):
    return find_garbage(place.client, experiment(place), place.folder / CHECKPOINTS, missing_files)


def experiment(place):
    return place.client.get_experiment_by_name("kdops").experiment_id


def removed(place, pieces):
    return list(remove_garbage(place.client, experiment(place), pieces))


def kinds(place):
    return sorted(piece.kind for piece in found(place))


def whole(place):
    """Return all that must stay: finished runs, versions, and the files of their models."""
    versions = {
        (v.name, str(v.version)) for name in NAMES for v in place.client.search_model_versions(f"name = '{name}'")
    }
    runs = {run.info.run_id for run in place.runs() if run.info.status == "FINISHED"}
    owned = {run.outputs.model_outputs[0].model_id for run in place.children() if run.info.status == "FINISHED"}
    files = {
        p: p.stat().st_size for model in owned for p in place.folder.rglob(f"{model}/artifacts/**/*") if p.is_file()
    }
    return versions, runs, files


def folder_of(client, version):
    """Return the folder with the files of a version's model."""
    return Path(client.get_logged_model(version.source.rpartition("/")[2]).artifact_location)


def lose_files(client, number):
    """Move the files of a student's model away; give its version."""
    version = client.get_model_version(STUDENT, number)
    location = folder_of(client, version)
    location.rename(location.with_name("elsewhere"))
    return version


def fail_run(client, number):
    """Have the run of a student's version end as failed after all; give the version."""
    version = client.get_model_version(STUDENT, number)
    client.set_terminated(version.run_id, "FAILED")
    return version


def logged(client, folder, run, described=True, **named):
    """Log a model with real files, as kdops or somebody else does; give its id and the folder of its files."""
    model = client.create_logged_model(run.info.experiment_id, source_run_id=run.info.run_id, **named)
    written = folder / "written"
    written.mkdir(exist_ok=True)
    (written / "weights.bin").write_bytes(b"12345")
    (written / "MLmodel").write_text(f"run_id: {run.info.run_id}\nmodel_id: {model.model_id}\n")
    if not described:
        (written / "MLmodel").unlink()
    client.log_model_artifacts(model.model_id, str(written))
    return model.model_id, Path(model.artifact_location)


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
    assert "Removed 1 files, 1 run: " in capsys.readouterr().out
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
    gone = replace(ProcessId.own(), boot=ProcessId.own().boot - 3600)
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
    assert main(["gc", "--yes", "--missing-files"]) == 0
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
        found(apart, missing_files=False)
    assert main(["gc", "--yes"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert whole(apart)[:2] == before


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_missing_files_alone_never_delete_in_bulk(apart, capsys, lost):
    """One model of four that lacks its files goes; of several the disk may be away, so only an option removes them."""
    before = whole(apart)[0]
    gone = {(STUDENT, str(lose_files(apart.client, str(number)).version)) for number in range(1, lost + 1)}
    fail_run(apart.client, "3") if lost < 3 else None
    assert main(["gc", "--yes"]) == 0
    told = capsys.readouterr().out
    assert ("--missing-files" in told) == (lost > 1)
    failing = {(STUDENT, "3")} if lost < 3 else set()
    assert before - whole(apart)[0] == failing | (gone if lost == 1 else set())
    assert main(["gc", "--yes", "--missing-files"]) == 0
    assert before - whole(apart)[0] == gone | failing


@pytest.mark.parametrize(("models", "goes"), [(1, False), (2, False), (3, True)])
def test_a_model_without_files_goes_only_where_most_have_theirs(models, goes):
    (piece,) = _without_many_missing([Piece("version", f"{STUDENT}/1", GONE)], models)
    assert (not piece.kept) == goes


def test_of_an_only_model_missing_files_do_not_delete(apart, capsys):
    client = apart.client
    for number in ("1", "2", "3"):
        client.delete_model_version(STUDENT, number)
    (version,) = client.search_model_versions(f"name = '{TEACHER}'")
    for model in client.search_logged_models([experiment(apart)]):
        if model.model_id != version.source.removeprefix("models:/"):
            client.delete_logged_model(model.model_id)
    folder_of(client, version).rename(apart.folder / "elsewhere")
    assert main(["gc", "--yes"]) == 0
    assert "--missing-files" in capsys.readouterr().out
    assert (TEACHER, str(version.version)) in whole(apart)[0]


def test_files_outside_of_the_experiments_place_stay(failed, monkeypatch):
    client = failed.client
    run = next(run for run in failed.children() if run.info.status == "FAILED")
    place = Path(run.info.artifact_uri)
    other = failed.folder / "other" / "mlruns" / "1"
    other.mkdir(parents=True)
    with sqlite3.connect(failed.database) as database:
        database.execute("UPDATE experiments SET artifact_location = ?", (str(other),))
    database.close()
    place.mkdir(parents=True, exist_ok=True)
    (place / "kept.txt").write_text("of somebody")
    (piece,) = [piece for piece in found(failed) if piece.kind == "run"]
    assert "outside" in piece.kept
    removed(failed, [replace(piece, kept="")])
    assert (place / "kept.txt").is_file()
    assert client.get_run(run.info.run_id).info.lifecycle_stage == "active"


def test_only_old_checkpoints_go(apart):
    folder = apart.folder / CHECKPOINTS
    folder.mkdir()
    for name, days in (("old.safetensors", 15), ("new.safetensors", 13), ("old.tmp", 15)):
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


def test_models_of_others_keep_their_files(apart):
    client = apart.client
    mine = client.get_experiment_by_name("kdops").experiment_id
    theirs = client.create_run(mine)
    places = [logged(client, apart.folder, theirs, name="theirs"), logged(client, apart.folder, theirs, name="gone")]
    places.append(logged(client, apart.folder, theirs, described=False, name="bare"))
    client.set_terminated(theirs.info.run_id, "FAILED")
    for model_id, folder in places[1:]:
        client.delete_logged_model(model_id)
        os.utime(folder, (0, 0))
    # What kdops made is known by its run; a model that is still known is no leftover of a deleted one.
    ours = client.create_run(mine, tags={"kdops.study": "students", "kdops.role": "student"})
    known, folder = logged(client, apart.folder, ours, name="ours")
    client.set_terminated(ours.info.run_id, "FAILED")
    assert [(p.kind, p.name) for p in found(apart)] == [("run", ours.info.run_id)]
    client.delete_logged_model(known)
    assert [(p.kind, p.name) for p in found(apart)] == [("files", folder.as_posix()), ("run", ours.info.run_id)]
    assert main(["gc", "--yes"]) == 0
    assert not folder.exists()
    assert [(place / "weights.bin").read_bytes() for _, place in places] == [b"12345"] * 3


@pytest.mark.parametrize("what", ["run", "study"])
def test_what_changed_since_it_was_listed_stays(failed, what):
    client = failed.client
    pieces = found(failed)
    (files,) = [Path(piece.name) for piece in pieces if piece.kind == "files"]
    (run,) = [client.get_run(piece.name) for piece in pieces if piece.kind == "run"]
    if what == "run":
        client.set_terminated(run.info.run_id, "FINISHED")
    else:
        client.update_run(run.data.tags["mlflow.parentRunId"], status="RUNNING")
    left = removed(failed, pieces)
    assert [piece.name for piece in left if piece.kept] == [piece.name for piece in pieces]
    assert files.is_dir()
    assert client.get_run(run.info.run_id).info.lifecycle_stage == "active"


def test_versions_that_changed_since_they_were_listed_stay(apart):
    client = apart.client
    lost, promoted, back = lose_files(client, "1"), fail_run(client, "2"), lose_files(client, "3")
    pieces = found(apart)
    assert not any(piece.kept for piece in pieces)
    client.set_registered_model_alias(STUDENT, "production", "2")
    place = folder_of(client, back)
    place.with_name("elsewhere").rename(place)
    told = {(piece.kind, piece.name): piece.kept for piece in removed(apart, pieces)}
    assert told.pop(("version", f"{STUDENT}/1")) == ""
    assert told.pop(("version", f"{STUDENT}/2")) == "it is production: kdops rollback first"
    assert told.pop(("version", f"{STUDENT}/3")) != ""
    assert told == {
        ("logged model", promoted.source.removeprefix("models:/")): f"{STUDENT}/2 needs it",
        ("run", promoted.run_id): f"{STUDENT}/2 needs it",
    }
    assert (folder_of(client, promoted) / "MLmodel").is_file()
    # Who removes the same at the same time is no mistake.
    (again,) = removed(apart, [piece for piece in pieces if piece.name == f"{STUDENT}/{lost.version}"])
    assert again.kept


def test_of_two_who_remove_at_once_neither_fails(failed, capsys):
    pieces = found(failed)
    assert [piece.kept for piece in removed(failed, pieces)] == ["", ""]
    removed(failed, pieces)
    assert main(["gc"]) == 0
    assert capsys.readouterr().out == "Failed studies left nothing that can be removed.\n"


def test_a_model_that_the_search_did_not_give_is_asked_for(apart):
    version = apart.client.get_model_version(STUDENT, "2")
    apart.client.delete_logged_model_tag(version.source.removeprefix("models:/"), "kdops.chain")
    assert found(apart) == []


@pytest.mark.parametrize("marked", [False, True], ids=["logged model", "files"])
def test_all_that_a_version_with_an_alias_needs_stays_with_it(apart, capsys, marked):
    client = apart.client
    version = fail_run(client, "2")
    place = folder_of(client, version)
    if marked:
        client.delete_logged_model(version.source.removeprefix("models:/"))
    client.set_registered_model_alias(STUDENT, "production", "2")
    pieces = found(apart)
    kinds = ["version", "files" if marked else "logged model", "run"]
    assert [(piece.kind, bool(piece.kept)) for piece in pieces] == [(kind, True) for kind in kinds]
    assert main(["gc", "--yes"]) == 0
    assert f"stays: {STUDENT}/2 needs it" in capsys.readouterr().out
    assert (place / "MLmodel").is_file()
    assert client.get_run(version.run_id).info.lifecycle_stage == "active"
    client.delete_registered_model_alias(STUDENT, "production")
    assert main(["gc", "--yes"]) == 0
    assert not place.exists()


def test_where_the_champion_goes_the_best_of_its_own_group_is_crowned(apart):
    client = apart.client
    students = client.search_model_versions(f"name = '{STUDENT}'")
    best, second, third = sorted(students, key=lambda v: -float(v.tags["val_accuracy"]))
    client.set_registered_model_alias(STUDENT, CHAMPION, best.version)
    client.set_model_version_tag(STUDENT, second.version, "split", "another")
    lose_files(client, best.version)
    assert main(["gc", "--yes"]) == 0
    assert str(client.get_registered_model(STUDENT).aliases[CHAMPION]) == str(third.version)
    assert {str(v.version) for v in client.search_model_versions(f"name = '{STUDENT}'")} == {
        str(second.version),
        str(third.version),
    }


def test_files_of_another_host_are_not_said_to_be_gone(apart):
    client = apart.client
    elsewhere, nameless = lose_files(client, "1"), lose_files(client, "2")
    client.set_tag(elsewhere.run_id, "kdops.process", str(replace(ProcessId.own(), host="another")))
    client.delete_tag(nameless.run_id, "kdops.process")
    kept = {piece.name: piece.kept for piece in found(apart, missing_files=False)}
    assert kept.keys() == {f"{STUDENT}/1", f"{STUDENT}/2"}
    assert kept[f"{STUDENT}/1"].startswith("made on another host")
    assert kept[f"{STUDENT}/2"] == ""
    assert main(["gc", "--yes"]) == 0
    assert (STUDENT, "1") in whole(apart)[0]


@pytest.mark.parametrize("way", ["copy", "bare copy", "model", "folder"])
def test_what_is_registered_under_another_name_stays(apart, way):
    client = apart.client
    version = fail_run(client, "2")
    place = folder_of(client, version)
    if way == "copy":
        client.copy_model_version(f"models:/{STUDENT}/2", "prod-signs")
    else:
        client.create_registered_model("prod-signs")
        sources = {"bare copy": f"models:/{STUDENT}/2", "model": version.source, "folder": place.as_uri()}
        client.create_model_version("prod-signs", sources[way], await_creation_for=0)
    pieces = {piece.kind: piece.kept for piece in found(apart)}
    assert pieces.keys() == {"version", "logged model", "run"}
    assert all(pieces.values())
    assert pieces["version"] == "prod-signs/1 needs it"
    assert main(["gc", "--yes"]) == 0
    assert (place / "MLmodel").is_file()
    client.delete_model_version("prod-signs", "1")
    assert main(["gc", "--yes"]) == 0
    assert not place.exists()
