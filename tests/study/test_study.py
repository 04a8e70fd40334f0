"""Whole studies on digits, in this process and with real stores: what is trained, reused, resumed and told."""

import json
import os
import signal
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from kdops.config.engines import ENGINES, EngineSpec
from kdops.data import dataset as datasets
from kdops.data.splits import make_split
from kdops.errors import KdopsError
from kdops.study.storing import Commits
from kdops.tracking.tracker import Tracker
from kdops.training.local import LocalEngine
from kdops.utils.process import ProcessId
from kdops.verdicts.answer import Answer
from tests.conftest import Place, copy_database

DIGITS = datasets.load("digits")
SPLIT = make_split(DIGITS, "disjoint", 0)


def test_every_image_set_is_the_one_of_its_role(done):
    teachers, students, middles, *vias = _passes(done)
    assert {call.role for call in teachers} == {"teacher"}
    assert [one.role for one in (students, middles, *vias)] == ["student", "middle", *["student"] * len(vias)]
    for call in teachers:
        _assert_trained_on(call, SPLIT.teacher)
    # Hard labels (T = 0) are members of the pass, so they see the sweep's own images.
    assert students.members == middles.members == [(s, t) for s in (0, 1) for t in (0.0, 1.0, 4.0)]
    # Via the best middle, the best distilled and the worst; whose students are there already is not trained again.
    assert vias[0].members == [(s, t) for s in (0, 1) for t in (1.0, 4.0)]
    assert all(set(via.members) <= set(vias[0].members) for via in vias)
    for call in (students, middles, *vias):
        _assert_trained_on(call, SPLIT.hop(0))


def test_chains_and_sources(done):
    by_uri = {run.data.tags["kdops.model"]: run.data.tags for run in done.children()}
    teachers = [uri for uri, tags in by_uri.items() if tags["kdops.role"] == "teacher"]
    assert len(teachers) == 2
    seen = set()
    for run in done.children():
        tags = run.data.tags
        soft, source = run.data.params["temperature"] != "0", tags["kdops.source"]
        if tags["kdops.role"] == "teacher" or not soft:
            assert (tags["kdops.chain"], source) == (tags["kdops.role"], "labels")
        else:
            # Through a middle net on hard labels the chain is shorter: it never saw the teacher.
            assert tags["kdops.chain"] == f"{by_uri[source]['kdops.chain']}>{tags['kdops.role']}"
            assert by_uri[source]["kdops.role"] in ("teacher", "middle")
            seed = run.data.params["seed"]
            assert done.client.get_run(_run_of(done, source)).data.params["seed"] == seed
        seen.add(tags["kdops.chain"])
    assert {"teacher", "student", "middle", "teacher>student", "teacher>middle"} <= seen
    assert seen & {"middle>student", "teacher>middle>student"}


def test_via_goes_through_the_best_the_best_distilled_and_the_worst_middle_by_validation(done):
    middles = [run for run in done.children() if run.data.tags["kdops.role"] == "middle"]
    students = [run.data.tags for run in done.children() if run.data.tags["kdops.role"] == "student"]
    used = {tags["kdops.source"] for tags in students if "middle" in tags["kdops.chain"]}
    wanted = set()
    for seed in ("0", "1"):
        ranked = sorted(
            (run for run in middles if run.data.params["seed"] == seed),
            key=lambda run: (-run.data.metrics["val_accuracy"], run.data.metrics["val_nll"]),
        )
        distilled = next(run for run in ranked if run.data.params["temperature"] != "0")
        wanted |= {run.data.tags["kdops.model"] for run in (ranked[0], distilled, ranked[-1])}
    assert used == wanted


@pytest.mark.parametrize("middle", ["hard", "soft"])
def test_the_chain_tells_whether_the_middle_knew_the_teacher(middle, fork):
    from kdops.study.open import open_study

    settings = fork.settings("transitivity", seeds=1)
    with open_study("transitivity", settings) as study:
        middles = study.distill(study.train("teacher"), "middle", [0.0, *settings.temperatures])
        chosen = study.best(middles.hard() if middle == "hard" else middles.soft())
        students = study.distill(chosen, "student", settings.temperatures)
        study.conclude("chain", Answer())
    assert {r.chain for r in students.records} == {"middle>student" if middle == "hard" else "teacher>middle>student"}
    assert {r.source for r in students.records} == {chosen.records[0].uri}


def test_the_same_study_again_trains_nothing(fork, done, capsys):
    before = {run.info.run_id for run in done.children()}
    parent = fork.run("transitivity")
    assert fork.calls == []
    assert {run.info.run_id for run in fork.children()} == before
    first = done.studies()[0]
    assert parent.data.metrics == first.data.metrics
    assert parent.data.tags["kdops.verdict"] == first.data.tags["kdops.verdict"]
    uris = {run.data.tags["kdops.model"] for run in done.children()}
    assert set(parent.data.tags["kdops.reused"].split()) == uris
    again, was = (pd.read_csv(done.artifact(run, "results.csv")) for run in (parent, first))
    assert again["reused"].all()
    assert not was["reused"].any()
    pd.testing.assert_frame_equal(again.drop(columns="reused"), was.drop(columns="reused"), check_like=True)
    assert f"{len(uris)} of {len(uris)} models were there already" in capsys.readouterr().out


TEACHERS, HARD, SOFT = 2, 2, 4


@pytest.mark.parametrize(
    ("change", "teachers", "students"),
    [
        ({}, 0, 0),
        ({"margin": "0.3", "select_on": "test"}, 0, 0),
        ({"middle": "mlp(hidden=3)", "epochs": "teacher=2,student=3,middle=9"}, 0, 0),
        ({"seeds": "1", "seed": "1"}, 0, 0),
        ({"seeds": "3"}, 1, 3),
        ({"seed": "7"}, TEACHERS, HARD + SOFT),
        # What another fleet trained already is there.
        ({"temperatures": "1,5"}, 0, SOFT // 2),
        ({"temperatures": "4"}, 0, 0),
        ({"alpha": "0.5"}, 0, SOFT),
        ({"t_squared": "false"}, 0, SOFT),
        ({"learning_rate": "student=0.002"}, 0, HARD + SOFT),
        ({"student": "mlp(hidden=9)"}, 0, HARD + SOFT),
        # Of another teacher nothing is known yet, so neither are its students; hard labels need no teacher.
        ({"epochs": "teacher=3,student=3"}, TEACHERS, SOFT),
        ({"order": "own"}, TEACHERS, HARD + SOFT),
        ({"split_seed": "1"}, TEACHERS, HARD + SOFT),
        ({"transfer": "shared"}, TEACHERS, HARD + SOFT),
        ({"transfer": "fresh"}, TEACHERS, HARD + SOFT),
        ({"fresh": "true"}, TEACHERS, HARD + SOFT),
    ],
    ids=str,
)
def test_what_a_changed_setting_trains_again(change, teachers, students, look, capsys):
    look.plan("students", **change)
    first, second, _ = capsys.readouterr().out.splitlines()
    assert f", {teachers} to train, " in first
    assert f", {students} to train, " in second


def test_more_replicates_keep_the_first_ones(fork, done):
    old = done.weights()
    parent = fork.run("students", seeds=3)
    assert sorted(fork.trained()) == [
        ("student", 2, 0.0),
        ("student", 2, 1.0),
        ("student", 2, 4.0),
        ("teacher", 2, 0.0),
    ]
    assert len(fork.children(parent)) == 4
    assert len(parent.data.tags["kdops.reused"].split()) == 8
    rows = pd.read_csv(fork.artifact(parent, "results.csv"))
    assert sorted(rows.loc[~rows["reused"], "seed"]) == [2, 2, 2, 2]
    assert old.items() <= fork.weights().items()


def test_another_alpha_trains_only_what_is_soft(fork, done):
    parent = fork.run("students", alpha="0.5", seeds=1)
    children = fork.children(parent)
    assert sorted((run.data.params["temperature"], run.data.params["alpha"]) for run in children) == [
        ("1", "0.5"),
        ("4", "0.5"),
    ]
    assert not {run.data.tags["kdops.weights"] for run in children} & set(done.weights().values())


def test_fresh_trains_all_again_bit_for_bit(fork, done):
    parent = fork.run("students", fresh="true")
    assert len(fork.trained()) == len(fork.children(parent)) == 8
    assert "kdops.reused" not in parent.data.tags
    # weights() refuses two digests of one and the same model.
    assert fork.weights() == done.weights()
    assert len(fork.children()) == len(done.children()) + 8


def test_a_deleted_version_is_trained_again(fork, done):
    gone = next(run for run in fork.children() if run.data.tags["kdops.chain"] == "teacher>student")
    name, version = gone.data.tags["kdops.model"].removeprefix("models:/").split("/")
    fork.client.delete_model_version(name, version)
    seed, temperature = gone.data.params["seed"], gone.data.params["temperature"]
    parent = fork.run("students", seeds=1, seed=seed)
    (again,) = fork.children(parent)
    assert (again.data.params["seed"], again.data.params["temperature"]) == (seed, temperature)
    # Its whole replicate was trained to get it, and its bits are those of the one that was trained beside another.
    assert fork.trained() == [("student", int(seed), t) for t in (0.0, 1.0, 4.0)]
    assert again.data.tags["kdops.fleet"] == gone.data.tags["kdops.fleet"] == seed
    for tag in ("kdops.training", "kdops.fingerprint", "kdops.weights", "kdops.fleet_digest"):
        assert again.data.tags[tag] == gone.data.tags[tag]
    for name in ("val_nll", "test_nll", "train_loss"):
        assert again.data.metrics[name] == gone.data.metrics[name]


@pytest.fixture
def interrupted(monkeypatch):
    """Return a way to interrupt a study once so many models of a role are logged, as Ctrl-C does."""

    def after(role, logged):
        count, underway = [], []
        real, put = Tracker.commit, Commits.put

        def commit(self, outcome, *given):
            model = real(self, outcome, *given)
            if outcome.record.role == role:
                count.append(model)
                if len(count) == logged:
                    # Where it arrives while the garbage collector calls hypothesis, Python drops it: press again.
                    while not underway[-1]._is_closed:
                        os.kill(os.getpid(), signal.SIGINT)
                        again = time.monotonic() + 5
                        while not underway[-1]._is_closed and time.monotonic() < again:
                            time.sleep(0.001)
            return model

        monkeypatch.setattr(Tracker, "commit", commit)
        monkeypatch.setattr(Commits, "put", lambda self, *given: underway.append(self) or put(self, *given))

    return after


def test_an_interrupted_study_goes_on_where_it_stopped(store, done, interrupted, monkeypatch):
    interrupted("middle", 2)
    with pytest.raises(KeyboardInterrupt):
        store.run("transitivity")
    (first,) = store.studies()
    assert (first.info.status, first.data.tags["kdops.error"]) == ("KILLED", "interrupted")
    kept = store.children()
    assert [run.info.status for run in kept] == ["FINISHED"] * 10  # 2 teachers, 6 students, 2 of 6 middles
    assert store.weights().items() <= done.weights().items()

    # The second try fails in the registry, in the middle of another fleet.
    _fail_once(monkeypatch, "create_model_version", 6)
    with pytest.raises(OSError, match="no room left"):
        store.run("transitivity")
    second = store.studies()[0]
    assert (second.info.status, second.data.tags["kdops.error"]) == ("FAILED", "no room left")
    assert sorted(run.info.status for run in store.children(second)) == ["FAILED"] + ["FINISHED"] * 5

    store.calls.clear()
    third = store.run("transitivity")
    assert third.info.status == "FINISHED"
    assert {call.role for call in store.calls} == {"student"}
    assert len(store.children(third)) == len(done.children()) - 15
    assert len(third.data.tags["kdops.reused"].split()) == 15
    assert third.data.metrics == done.studies()[0].data.metrics
    # What was cut off twice has, bit for bit, the weights of what never was.
    assert store.weights() == done.weights()
    assert {run.info.status for run in store.runs()} == {"FINISHED", "FAILED", "KILLED"}


def test_a_replicate_has_the_same_weights_whichever_others_are_asked_for(store, done):
    store.run("transitivity", seeds=1, seed=1)
    mine = store.weights()
    assert len(mine) == len(done.weights()) / 2
    assert mine.items() <= done.weights().items()


@pytest.mark.slow
def test_another_fleet_stores_only_what_is_new_also_after_a_cut(fork, done, interrupted, tmp_path):
    never = Place(tmp_path / "never")
    never.folder.mkdir()
    copy_database(done.database, never.database)
    interrupted("student", 1)
    with pytest.raises(KeyboardInterrupt):
        fork.run("students", temperatures="1,4,9")
    (first,) = fork.children(fork.studies()[0])
    assert (first.data.params["seed"], first.data.params["temperature"]) == ("0", "9")
    second = fork.run("students", temperatures="1,4,9")
    (rest,) = fork.children(second)
    assert (rest.data.params["seed"], rest.data.params["temperature"]) == ("1", "9")
    # Replicate 0 is whole by now.
    assert fork.calls[1].members == [(1, t) for t in (0.0, 1.0, 4.0, 9.0)]
    assert len(second.data.tags["kdops.reused"].split()) == 9

    with pytest.MonkeyPatch.context() as patch:
        whole = never.enter(patch).run("students", temperatures="1,4,9")
        assert [run.data.params["temperature"] for run in never.children(whole)] == ["9", "9"]
        assert never.weights() == fork.weights()
    assert results(fork, second) == results(never, whole)
    for place in (fork, never):
        versions = place.client.search_model_versions("name = 'kdops-digits-student'", max_results=1000)
        kinds = [tuple(v.tags[name] for name in ("chain", "seed", "temperature", "source")) for v in versions]
        assert len(set(kinds)) == len(kinds)


def results(place, run):
    """Return what a study found of each model: chain, seed and temperature to its test accuracy."""
    table = pd.read_csv(place.artifact(run, "results.csv"))
    return {(r.chain, r.seed, r.temperature): r.test_accuracy for r in table.itertuples()}


@pytest.mark.parametrize("step", ["finalize_logged_model", "log_batch", "set_logged_model_tags", "set_terminated"])
def test_a_model_that_fails_at_any_step_of_its_logging_leaves_no_version(store, monkeypatch, step):
    _fail_once(monkeypatch, step, 1)
    with pytest.raises(OSError, match="no room left"):
        store.run("teacher", seeds=1)
    assert not store.client.search_model_versions("name = 'kdops-digits-teacher'")
    (parent,) = store.studies()
    assert parent.info.status == "FAILED"
    assert {run.info.status for run in store.runs()} == {"FAILED"}

    store.run("teacher", seeds=1)
    (version,) = store.client.search_model_versions("name = 'kdops-digits-teacher'")
    assert store.client.get_run(version.run_id).info.status == "FINISHED"
    champion = store.client.get_model_version_by_alias("kdops-digits-teacher", "champion")
    assert champion.version == version.version


def test_a_version_that_could_not_be_withdrawn_is_withdrawn_by_the_next_study(store, monkeypatch):
    _fail_once(monkeypatch, "set_logged_model_tags", 1)
    _fail_once(monkeypatch, "delete_model_version", 1)
    with pytest.raises(OSError, match="no room left"):
        store.run("teacher", seeds=1)
    (left,) = (run for run in store.runs() if run.info.status == "RUNNING")
    (version,) = store.client.search_model_versions("name = 'kdops-digits-teacher'")
    assert version.run_id == left.info.run_id

    # This process lives on; the run is made to name one that is gone, as after a kill.
    gone = replace(ProcessId.own(), boot=ProcessId.own().boot - 3600)
    store.client.set_tag(left.info.run_id, "kdops.process", str(gone))
    store.run("teacher", seeds=1)
    assert store.client.get_run(left.info.run_id).info.status == "KILLED"
    (version,) = store.client.search_model_versions("name = 'kdops-digits-teacher'")
    assert store.client.get_run(version.run_id).info.status == "FINISHED"


def test_fresh_images_for_each_hop(store):
    from kdops.study.open import open_study

    settings = store.settings("transitivity", seeds=1, transfer="fresh", temperatures="1")
    with open_study("transitivity", settings) as study:
        teachers = study.train("teacher")
        middles = study.distill(teachers, "middle", settings.temperatures)
        students = study.distill(middles, "student", settings.temperatures)
        study.conclude("chain", Answer())
    split = make_split(DIGITS, "fresh", 0)
    for call, rows in zip(store.calls, (split.teacher, split.hop(0), split.hop(1)), strict=True):
        _assert_trained_on(call, rows)
    (record,) = students.records
    assert record.chain == "teacher>middle>student"
    # Each says itself what it was trained on.
    counts = [_train_input(store, sweep.records[0].run_id) for sweep in (teachers, middles, students)]
    assert [count for _, count in counts] == [len(split.teacher), len(split.hop(0)), len(split.hop(1))]
    assert len({digest for digest, _ in counts}) == 3


def test_a_diverging_study_ends_in_one_line_and_keeps_its_teachers(fork, capsys):
    from kdops.cli.app import pipeline_main
    from pipelines import students

    options = ["--seeds", "1", "--seed", "7", "--temperatures", "1,4", "--epochs", "teacher=1,student=3"]
    wild = ["--student", "mlp(hidden=128,depth=20)", "--learning-rate", "student=100"]
    with pytest.raises(SystemExit) as ended:
        pipeline_main("students", students.main, [*options, *wild])
    assert ended.value.code == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("students: student T=")
    assert "seed=7: the training loss became " in line
    assert "lower learning_rate (now 100)" in line
    failed = fork.studies()[0]
    assert failed.info.status == "FAILED"
    assert failed.data.tags["kdops.error"] == line.removeprefix("students: ")
    (teacher,) = fork.children(failed)
    assert (teacher.data.tags["kdops.role"], teacher.info.status) == ("teacher", "FINISHED")
    assert {run.info.status for run in fork.runs()} == {"FINISHED", "FAILED"}

    fork.calls.clear()
    with pytest.raises(SystemExit) as ended:
        pipeline_main("students", students.main, options)
    assert ended.value.code == 0
    assert [call.role for call in fork.calls] == ["student"]
    assert fork.studies()[0].data.tags["kdops.reused"] == teacher.data.tags["kdops.model"]


def test_a_dry_run_leaves_nothing_behind(nowhere, capsys):
    nowhere.plan("transitivity")
    *steps, total = capsys.readouterr().out.splitlines()
    assert [line.split(" on ")[0] for line in steps] == [
        "2 x teacher cnn(filters=32,layers=3,dropout=0.1/0.1/0.1)",
        "6 x student mlp(hidden=8,depth=1,dropout=0)",
        f"6 x middle {nowhere.settings('transitivity').recipes['middle'].architecture}",
        *(f"{count} x student mlp(hidden=8,depth=1,dropout=0)" for count in ("4", "0 to 4", "4")),
    ]
    assert total.startswith("22 to 26 models, 22 to 26 to train, depending on which models are best: about ")
    assert total.endswith(" MB of disk")
    assert nowhere.calls == []
    assert list(nowhere.folder.iterdir()) == []


def test_a_dry_run_says_what_is_there(look, capsys):
    before = len(look.runs())
    look.plan("transitivity")
    *steps, total = capsys.readouterr().out.splitlines()
    assert all(", 0 to train, " in line for line in steps)
    assert total.startswith("26 models, 0 to train: about 0 s")
    assert len(look.runs()) == before


def test_one_replicate_at_one_temperature_is_inconclusive(fork, capsys):
    from kdops.cli.app import pipeline_main
    from pipelines import transitivity

    options = ["--seeds", "1", "--temperatures", "4", "--epochs", "teacher=2,student=3,middle=3"]
    with pytest.raises(SystemExit) as ended:
        pipeline_main("transitivity", transitivity.main, options)
    assert ended.value.code == 0
    parent = fork.studies()[0]
    assert parent.data.tags["kdops.verdict"] == "inconclusive"
    assert parent.data.metrics["transitivity_replicates"] == 1
    assert "transitivity_low" not in parent.data.metrics
    for name in ("figure-4-middles.png", "figure-5-transitivity.png"):
        _assert_picture(fork.artifact(parent, f"figures/{name}"))
    assert "Inconclusive: over 1 temperature " in capsys.readouterr().out


def test_selection_on_test_is_named(fork, done):
    quiet = done.studies()[0].data.tags["mlflow.note.content"]
    assert "chosen on validation" in quiet
    assert "Selection used the test set" not in quiet
    loud = fork.run("transitivity", select_on="test").data.tags["mlflow.note.content"]
    assert "chosen on test" in loud
    assert "Selection used the test set" in loud


@pytest.mark.slow
def test_what_is_distilled_from_a_source_chosen_on_test_is_marked_and_reused_by_its_like_alone(fork):
    """Whatever is there already: with the mark it is another model, though its weights may be the same."""

    def via(select_on):
        study = fork.run("transitivity", select_on=select_on)
        runs = {run.data.tags["kdops.model"]: run for run in fork.children()}
        results = pd.read_csv(fork.artifact(study, "results.csv"))
        results = results[results["chain"].str.endswith("middle>student")]
        return {uri: runs[uri].data.tags.get("kdops.select_on") for uri in results["model"]}, fork.children(study)

    plain, trained = via("validation")
    assert plain
    assert not trained
    assert set(plain.values()) == {None}
    marked, trained = via("test")
    assert set(marked) == {run.data.tags["kdops.model"] for run in trained}, "nothing else is trained"
    assert set(marked.values()) == {"test"}
    assert not set(marked) & set(plain)
    for uri in marked:
        name, number = uri.removeprefix("models:/").split("/")
        version = fork.client.get_model_version(name, number)
        assert version.tags["select_on"] == "test"
        assert "champion" not in version.aliases
    assert [via(by) for by in ("validation", "test")] == [(plain, []), (marked, [])]


def test_a_device_that_is_not_there_makes_no_run(store):
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is there")
    with pytest.raises(KdopsError, match="device=cuda"):
        store.run("teacher", device="cuda")
    assert store.runs() == []


def _passes(place):
    """Return the passes of a transitivity study; teachers are trained in one call."""
    teachers = [call for call in place.calls if call.role == "teacher"]
    return teachers, *(call for call in place.calls if call.role != "teacher")


def _assert_trained_on(call, rows):
    np.testing.assert_array_equal(call.pixels, DIGITS.images[rows])
    np.testing.assert_array_equal(call.labels, DIGITS.labels[rows])


def _run_of(place, uri):
    name, version = uri.removeprefix("models:/").split("/")
    return place.client.get_model_version(name, version).run_id


def _train_input(place, run_id):
    """Return the digest and the number of images of a run's training data."""
    inputs = place.client.get_run(run_id).inputs.dataset_inputs
    (train,) = (one.dataset for one in inputs if one.tags[0].value == "train")
    return train.digest, json.loads(train.profile)["images"]


def _fail_once(monkeypatch, method, number):
    """Make the so-manieth call of a method of MLflow's client fail, and no other."""
    from mlflow import MlflowClient

    real, calls = getattr(MlflowClient, method), []

    def call(*args, **named):
        calls.append(None)
        if len(calls) == number:
            raise OSError("no room left")
        return real(*args, **named)

    monkeypatch.setattr(MlflowClient, method, call)


def _assert_picture(path):
    from PIL import Image

    with Image.open(path) as picture:
        picture.load()
        assert min(picture.size) > 300


class Grid(LocalEngine):
    """A cluster that is there, with three workers."""

    def __init__(self, workers, device, address):
        super().__init__()
        self.workers = workers or 3


def test_how_many_workers_a_cluster_has_is_asked_where_it_is_not_said(store, monkeypatch, capsys):
    monkeypatch.setitem(ENGINES, "grid", EngineSpec(f"{__name__}:Grid", addresses={"here": "here"}))
    given = {"engine": "grid:here", "seeds": "1", "temperatures": "1", "epochs": "teacher=1,student=1"}
    study = store.run("students", **given)
    assert study.data.tags["kdops.engine"] == "grid:here, workers=3"
    # Nothing is left to be trained, so the cluster is not asked.
    assert store.run("students", **given).data.tags["kdops.engine"] == "grid:here"
    for workers, known in [("auto", 3), ("2", 2)]:
        store.run("students", **given, workers=workers, dry_run="true")
        assert f"with engine=grid:here and workers={known}" in capsys.readouterr().out
