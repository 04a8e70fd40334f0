"""Searches as studies: trials as runs, the best trained again and registered, what is resumed, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

import kdops.search.trials
from kdops.cli.app import main
from kdops.config.engines import ENGINES, EngineSpec
from kdops.config.methods import parse_method
from kdops.config.space_parser import parse_space
from kdops.errors import KdopsError, UsageError
from kdops.search.search import JOURNAL, fresh_seeds
from kdops.search.trials import settings_of
from kdops.study.open import open_study
from kdops.study.sources import find_source
from kdops.tracking.trial_run import STATUS
from kdops.verdicts.answer import Answer
from tests.conftest import Place, copy_database

STUDENT = "kdops-digits-student"
SPACE = "temperature=1..8 hidden=4..12 depth=1,2 batch_size=32,64 learning_rate=0.005..0.02"
SMALL = {"space": SPACE, "trials": "12", "batch": "5", "seeds": "3", "temperatures": "1,4"}
DONE = ("complete", "pruned")
EPOCHS = "teacher=2,student=3,middle=3"
CONTRACT_TAGS = ("role", "study", "dataset", "source", "chain", "split", "fingerprint")
CONTRACT_PARAMS = ("dataset", "architecture", "parameters", "temperature", "alpha", "epochs", "batch_size")
CONTRACT_PARAMS += ("learning_rate", "seed", "transfer")


@pytest.fixture(scope="module")
def searched(done, tmp_path_factory):
    """The store of a transitivity study, and a search in it for the best student of its best teacher."""
    place = Place(tmp_path_factory.mktemp("searched"))
    copy_database(done.database, place.database)
    with pytest.MonkeyPatch.context() as patch:
        searching(place.enter(patch))
    return place


@pytest.fixture
def fork_of_searched(searched, tmp_path, monkeypatch):
    """A copy of it, trials included, which goes on by itself."""
    place = Place(tmp_path)
    copy_database(searched.database, place.database)
    (tmp_path / JOURNAL).write_bytes((searched.folder / JOURNAL).read_bytes())
    return place.enter(monkeypatch)


def searching(place, **given):
    """Run a small search and give its run."""
    return place.run("search", **{**SMALL, **given})


def trials_of(place, parent=None):
    """Return the runs of trials by number, the latest last."""
    found = [run for run in place.children(parent) if "kdops.trial" in run.data.tags]
    return sorted(found, key=lambda run: (int(run.data.tags["kdops.trial"]), run.info.start_time))


def states_of(place):
    return [run.data.tags["kdops.trial_state"] for run in trials_of(place)]


def table_of(place, run):
    return pd.read_csv(place.artifact(run, "trials.csv"))


def results_of(place, run):
    return pd.read_csv(place.artifact(run, "results.csv"))


def options(**given):
    """Return the command line's options of a small search."""
    given = {**SMALL, "epochs": EPOCHS, **given}
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", value)]


def test_every_trial_is_a_nested_run_that_tells_what_it_tried_and_how_it_ended(searched):
    parent = searched.studies()[0]
    runs = trials_of(searched, parent)
    assert [int(run.data.tags["kdops.trial"]) for run in runs] == list(range(12))
    space = parse_space(SPACE)
    for run in runs:
        tags, params, metrics = run.data.tags, run.data.params, run.data.metrics
        assert run.info.status == STATUS[tags["kdops.trial_state"]] != "RUNNING"
        assert all(tags[f"kdops.{name}"] for name in CONTRACT_TAGS)
        assert all(params[name] for name in CONTRACT_PARAMS)
        assert (tags["kdops.role"], tags["kdops.study"], tags["kdops.chain"]) == (
            "student",
            "search",
            "teacher>student",
        )
        assert space.dimensions[0].low <= float(params["temperature"]) <= space.dimensions[0].high
        assert {"val_accuracy", "val_nll", "train_loss", "train_seconds"} <= set(metrics)
        assert not [name for name in metrics if "test" in name], "a trial never sees the test set"
        assert "kdops.model" not in tags
        assert {one.dataset.name for one in run.inputs.dataset_inputs} == {"digits-train", "digits-val"}
        assert len(searched.client.get_run(run.info.run_id).inputs.model_inputs) == 1
    histories = {len(searched.client.get_metric_history(run.info.run_id, "val_accuracy")) for run in runs[:3]}
    assert histories == {3}


def test_the_table_of_trials_says_what_the_runs_say(searched):
    parent = searched.studies()[0]
    table, runs = table_of(searched, parent), {run.info.run_id: run for run in trials_of(searched, parent)}
    assert list(table["number"]) == list(range(12))
    assert set(table["run_id"]) == set(runs)
    for row in table.itertuples():
        run = runs[row.run_id]
        assert run.data.tags["kdops.trial_state"] == row.state
        assert float(run.data.params["temperature"]) == pytest.approx(row.temperature, rel=1e-4)
        if row.state == "complete":
            assert run.data.metrics["val_accuracy"] == pytest.approx(row.accuracy)


def test_the_best_is_trained_again_with_fresh_seeds_and_registered_beside_the_plain_one(searched):
    parent = searched.studies()[0]
    results, table = results_of(searched, parent), table_of(searched, parent)
    best = table.loc[table["accuracy"].idxmax()]
    students = results[results["role"] == "student"]
    # Seed 0 was every trial's: the sweep is chosen with it too, and both best ones are trained with others.
    assert set(students["seed"]) == {0, 1, 2, 3}
    found = students[students["architecture"].str.startswith(f"mlp(hidden={best['hidden']},depth={best['depth']}")]
    found = found[np.isclose(found["temperature"], best["temperature"])]
    assert sorted(found["seed"]) == [1, 2, 3]
    for uri in found["model"]:
        version = searched.client.get_model_version(*uri.removeprefix("models:/").split("/"))
        assert version.tags["study"] == "search"
        assert float(version.tags["temperature"]) == pytest.approx(best["temperature"], rel=1e-4)
    assert {"figures/search-history.png", "figures/search-slice.png"} <= {
        f"figures/{path.name}" for path in searched.artifact(parent, "figures").iterdir()
    }
    answer = json.loads(searched.artifact(parent, "answer.json").read_text())
    assert parent.data.tags["kdops.verdict"] == answer["word"]
    assert answer["rows"][-1]["what"].startswith("best of the sweep")
    assert parent.data.metrics["search_found_accuracy"] == pytest.approx(found["test_accuracy"].mean())
    assert parent.data.metrics["trials_complete"] == (table["state"] == "complete").sum()
    assert parent.data.metrics["best_accuracy"] == pytest.approx(table["accuracy"].max())


def test_a_trial_is_what_a_study_would_train_alone(searched, fork_of_searched):
    table = table_of(searched, searched.studies()[0])
    settings = fork_of_searched.settings("search", **SMALL)
    with open_study("search", settings) as study:
        sources, _ = find_source(study)
        for row in table[table["state"] == "complete"].head(4).to_dict("records"):
            values = {name: row[name] for name in ("hidden", "depth", "batch_size")}
            values = {name: int(value) for name, value in values.items()} | {
                name: row[name] for name in ("learning_rate", "alpha")
            }
            varied = study.with_settings(settings_of(settings, {**values, "t_squared": bool(row["t_squared"])}))
            (alone,) = varied.distill(sources, "student", [row["temperature"]], seeds=[0]).records
            trial = mlflow.get_run(row["run_id"])
            assert alone.metrics["val_nll"] == pytest.approx(trial.data.metrics["val_nll"], rel=1e-3)
            assert abs(alone.metrics["val_accuracy"] - trial.data.metrics["val_accuracy"]) <= 1 / len(
                study.split.validation
            )
            # It is one network to anyone who asks for it: the study finds it by the trial's own tag.
            stored = mlflow.get_run(alone.run_id).data.tags
            assert stored["kdops.training"] == trial.data.tags["kdops.training"]
        study.conclude("search", Answer())


def test_the_same_search_again_trains_nothing(fork_of_searched):
    before, versions = len(trials_of(fork_of_searched)), len(fork_of_searched.client.search_model_versions())
    parent = searching(fork_of_searched)
    assert fork_of_searched.calls == []
    assert len(trials_of(fork_of_searched)) == before
    assert len(fork_of_searched.client.search_model_versions()) == versions
    assert len(table_of(fork_of_searched, parent)) == 12


def test_more_trials_go_on_from_those_that_are_there(fork_of_searched):
    parent = searching(fork_of_searched, trials="15")
    assert [run.data.tags["kdops.trial"] for run in trials_of(fork_of_searched, parent)] == ["12", "13", "14"]
    assert len(table_of(fork_of_searched, parent)) == 15


def test_an_interrupted_search_over_methods_goes_on_and_each_trial_counts_once(fork, monkeypatch):
    space = f"{SPACE} method=logits,dkd,rkd,fitnet(at=embedding) beta=1..15 t_squared=true,false angle=0"
    train = kdops.search.trials.train_trials

    def interrupted(*given, **named):
        results = train(*given, **named)
        yield next(results)
        yield next(results)
        raise KeyboardInterrupt

    monkeypatch.setattr(kdops.search.trials, "train_trials", interrupted)
    with pytest.raises(KeyboardInterrupt):
        searching(fork, space=space)
    assert states_of(fork).count("failed") == 3
    assert {run.info.status for run in trials_of(fork)} == {"FINISHED", "KILLED"}
    monkeypatch.setattr(kdops.search.trials, "train_trials", train)
    parent = searching(fork, space=space)
    table = table_of(fork, parent)
    assert (table["state"].isin(DONE)).sum() == 12
    assert (table["state"] == "failed").sum() == 3
    # What was cut off is tried again with the same values, before anything new.
    again = table[table["again"].notna()]
    assert len(again) == 3
    for row in again.itertuples():
        first = table.set_index("number").loc[int(row.again)]
        assert (first["temperature"], first["method"]) == (row.temperature, row.method)
    # A trial has the options of its own method; its run and what is trained again say what it learned by.
    assert set(table["method"]) == {"logits", "dkd", "rkd", "fitnet(at=embedding)"}
    assert (table["beta"].notna() == (table["method"] == "dkd")).all()
    runs = {run.info.run_id: run.data.params["method"] for run in trials_of(fork)}
    params = {row.run_id: parse_method(runs[row.run_id]) for row in table.itertuples()}
    for row in table.itertuples():
        own = {name: getattr(row, name) for name in ("beta", "t_squared", "angle") if not pd.isna(getattr(row, name))}
        assert params[row.run_id] == parse_method(row.method).with_options(own)
    best = table.loc[table["accuracy"].idxmax()]
    trained = [run.data.params["method"] for run in fork.children(parent) if run.data.params["seed"] in ("1", "2", "3")]
    assert trained.count(runs[best["run_id"]]) >= 3
    assert f"trial {best['number']}, {best['method']}, {best['hidden']} x " in parent.data.tags["mlflow.note.content"]
    assert not [run for run in fork.runs() if run.info.status == "RUNNING"]


@pytest.mark.slow
def test_trials_on_workers_are_those_of_the_studys_own_process(fork, monkeypatch):
    monkeypatch.setitem(ENGINES, "another", EngineSpec("kdops.training.local:LocalEngine"))
    given = {
        "space": "method=logits,dkd,rkd beta=1..4 learning_rate=0.005..0.02 hidden=5,6 depth=1 temperature=1..8",
        **{"trials": "6", "batch": "6", "pruner": "none", "seeds": "1", "temperatures": "1", "fresh": "true"},
    }
    studies = [searching(fork, engine=engine, **given) for engine in ("local", "another")]
    tables = [table_of(fork, study) for study in studies]
    own = ["number", "state", "accuracy", "method", "learning_rate"]
    pd.testing.assert_frame_equal(tables[0][own], tables[1][own], check_exact=True)
    runs = [trials_of(fork, study) for study in studies]
    assert len(runs[0]) == 6
    for names in zip(*runs, strict=True):
        histories = [
            [one.value for one in fork.client.get_metric_history(run.info.run_id, "train_loss")] for run in names
        ]
        assert histories[0] == histories[1]


@pytest.mark.parametrize("engine", ["local", pytest.param("another", marks=pytest.mark.slow)])
def test_convolutional_students_and_their_augmentation_are_searched(fork, monkeypatch, engine):
    monkeypatch.setitem(ENGINES, "another", EngineSpec("kdops.training.local:LocalEngine"))
    parent = searching(
        fork,
        student="cnn(filters=4,layers=2,dropout=0)",
        space="temperature=2 filters=2..5 layers=1,2 dropout=0,0.2 augment=none,shift=1+cutout=2 learning_rate=0.01",
        **{"trials": "4", "batch": "4", "seeds": "1", "temperatures": "1", "pruner": "none", "engine": engine},
    )
    table, runs = table_of(fork, parent), trials_of(fork, parent)
    assert set(table["state"]) == {"complete"}
    tried = {(run.data.params["augment"], run.data.params["architecture"]) for run in runs}
    assert {augment for augment, _ in tried} == {"none", "shift=1 cutout=2"}
    for row, run in zip(table.itertuples(), runs, strict=True):
        rates = "/".join([f"{row.dropout:g}"] * row.layers)
        assert run.data.params["architecture"] == f"cnn(filters={row.filters},layers={row.layers},dropout={rates})"
    best = table.loc[table["accuracy"].idxmax()]
    found = [run for run in fork.children(parent) if run.data.tags.get("kdops.role") == "student"]
    again = {run.data.params["architecture"] for run in found if "kdops.model" in run.data.tags}
    assert any(one.startswith(f"cnn(filters={best.filters},layers={best.layers},") for one in again)


def test_bad_trials_are_pruned_and_their_runs_say_so(fork):
    # Rates at which next to nothing is learned beside good ones: the median of the complete ones tells them apart.
    space = "learning_rate=0.0000001,0.01,0.011,0.012 hidden=8..12 depth=1 batch_size=32"
    fork.run(
        "search",
        space=space,
        trials="24",
        batch="12",
        seeds="1",
        temperatures="1",
        epochs="student=8,teacher=2",
        sampler="random",
    )
    pruned = [run for run in trials_of(fork) if run.data.tags["kdops.trial_state"] == "pruned"]
    assert pruned
    assert {run.info.status for run in pruned} == {"KILLED"}
    for run in pruned:
        assert 3 <= len(fork.client.get_metric_history(run.info.run_id, "val_accuracy")) < 8
    assert "pruned" in fork.studies()[0].data.tags["mlflow.note.content"]


def test_trials_that_diverge_fail_and_when_all_do_the_search_says_what_to_change(fork):
    with pytest.raises(KdopsError, match=r"trials of .* failed; narrow the space, its learning_rate first"):
        # Layers that each multiply what the last one gave overflow after a few steps of such a size.
        searching(fork, space="learning_rate=50..60 depth=30 hidden=64 temperature=3,4 batch_size=32", trials="2")
    runs = trials_of(fork)
    assert {run.info.status for run in runs} == {"FAILED"}
    assert all("no finite number" in run.data.tags["kdops.error"] for run in runs)
    # The same values would diverge again, so nobody tries them again.
    assert len({run.data.params["learning_rate"] for run in runs}) == len(runs)
    assert fork.studies()[0].info.status == "FAILED"


@pytest.mark.slow
def test_with_two_objectives_the_whole_front_is_trained_again(fork, monkeypatch):
    # On workers too, which this engine has none of.
    monkeypatch.setitem(ENGINES, "another", EngineSpec("kdops.training.local:LocalEngine"))
    parent = searching(fork, objective="accuracy,flops", seeds="1", pruner="none", engine="another")
    table, results = table_of(fork, parent), results_of(fork, parent)
    second = "flops"
    beaten = [
        any((table["accuracy"] >= a) & (table[second] <= b) & ((table["accuracy"] > a) | (table[second] < b)))
        for a, b in zip(table["accuracy"], table[second], strict=True)
    ]
    front = table[~np.array(beaten)].drop_duplicates(["accuracy", second])
    retrained = results[(results["role"] == "student") & (results["seed"] == 1)]
    assert set(front["temperature"].round(4)) <= set(retrained["temperature"].round(4))
    assert "search-pareto.png" in {path.name for path in fork.artifact(parent, "figures").iterdir()}


def test_a_trial_that_breaks_its_batch_fails_alone(fork, monkeypatch):
    train = kdops.search.trials.train_trials

    def breaking(plans, *given, **named):
        if any(plan.recipe.architecture.hidden == 7 for plan in plans):
            raise RuntimeError("can't allocate memory:\n you tried to allocate much")
        yield from train(plans, *given, **named)

    monkeypatch.setattr(kdops.search.trials, "train_trials", breaking)
    space = "hidden=5,6,7 depth=1 batch_size=32 learning_rate=0.01 temperature=2 alpha=1 t_squared=true"
    searching(fork, space=space, trials="3", batch="3", sampler="grid", seeds="1", temperatures="1")
    ends = {run.data.params["architecture"]: run for run in trials_of(fork)}
    told = {name.partition(",")[0]: run.info.status for name, run in ends.items()}
    assert told == {"mlp(hidden=5": "FINISHED", "mlp(hidden=6": "FINISHED", "mlp(hidden=7": "FAILED"}
    (broken,) = [run for run in ends.values() if run.info.status == "FAILED"]
    assert broken.data.tags["kdops.error"] == "can't allocate memory: you tried to allocate much"


def test_an_error_after_the_last_trial_ended_is_the_one_that_is_told(fork, monkeypatch):
    train = kdops.search.trials.train_trials

    def breaking(*given, **named):
        yield from train(*given, **named)
        raise RuntimeError("the graph could not be released")

    monkeypatch.setattr(kdops.search.trials, "train_trials", breaking)
    with pytest.raises(RuntimeError, match="the graph could not be released"):
        searching(fork, trials="1", batch="1", seeds="1", temperatures="1")
    assert [run.info.status for run in trials_of(fork)] == ["FINISHED"]


def test_a_search_for_a_low_loss_is_told_by_its_loss(fork):
    parent = searching(fork, objective="val_nll", trials="4", seeds="2", pruner="none")
    note = parent.data.tags["mlflow.note.content"]
    assert "kdops.verdict" not in parent.data.tags
    assert "test_nll, the best found less the best of the sweep" in note
    assert "with fresh seeds its val_nll is" in note
    table = table_of(fork, parent)
    assert parent.data.metrics["best_val_nll"] == pytest.approx(table["val_nll"].min())


@pytest.mark.slow
def test_a_fresh_search_begins_anew(fork_of_searched):
    before = len(trials_of(fork_of_searched))
    searching(fork_of_searched, fresh="true", trials="2", seeds="1", temperatures="1")
    assert len(trials_of(fork_of_searched)) == before + 2
    assert ("teacher", [(0, 0.0)]) in [(call.role, call.members) for call in fork_of_searched.calls]


def test_a_source_that_came_far_has_the_same_images(fork):
    far = next(v for v in fork.client.search_model_versions(f"name = '{STUDENT}'") if v.tags["chain"].count(">") == 2)
    searching(fork, source=f"models:/{STUDENT}/{far.version}", trials="2", seeds="1", temperatures="1")
    assert {run.data.tags["kdops.chain"] for run in trials_of(fork)} == {"teacher>middle>student>student"}


def test_on_an_empty_store_the_teacher_is_trained_first(store):
    parent = searching(store, trials="3", seeds="1")
    assert next((call.role, call.members) for call in store.calls) == ("teacher", [(0, 0.0)])
    assert set(results_of(store, parent)["role"]) == {"teacher", "student"}


def test_the_source_is_the_best_teacher_unless_another_is_named(searched, fork):
    teachers = {v.version: v.tags for v in fork.client.search_model_versions("name = 'kdops-digits-teacher'")}
    best = max(teachers, key=lambda version: float(teachers[version]["val_accuracy"]))
    assert {run.data.tags["kdops.source"] for run in trials_of(searched)} == {f"models:/kdops-digits-teacher/{best}"}
    champion = fork.client.get_model_version_by_alias(STUDENT, "champion")
    given = {"source": f"models:/{STUDENT}@champion", "trials": "2", "seeds": "1", "temperatures": "1"}
    searching(fork, **given)
    told = {(run.data.tags["kdops.source"], run.data.tags["kdops.chain"]) for run in trials_of(fork)}
    assert told == {(f"models:/{STUDENT}/{champion.version}", f"{champion.tags['chain']}>student")}


@pytest.mark.slow
def test_a_logged_model_that_no_study_knows_can_be_the_source(fork):
    version = fork.client.search_model_versions("name = 'kdops-digits-teacher'")[0]
    uri = f"models:/{version.source.removeprefix('models:/')}"
    parent = searching(fork, source=uri, trials="2", seeds="1", temperatures="1")
    assert {run.data.tags["kdops.source"] for run in trials_of(fork)} == {uri}
    assert "not known here" in parent.data.tags["mlflow.note.content"]


@pytest.mark.slow
def test_a_middle_net_can_be_searched_for(fork):
    searching(fork, role="middle", trials="2", seeds="1", temperatures="1")
    assert {run.data.tags["kdops.chain"] for run in trials_of(fork)} == {"teacher>middle"}


def test_an_ensemble_does_not_draw_what_a_search_found(fork_of_searched):
    parent = fork_of_searched.run("ensemble", controls="false")
    assert "single nets of their training" in parent.data.tags["mlflow.note.content"]
    assert set(results_of(fork_of_searched, parent).query("role == 'student'")["architecture"]) == {
        "mlp(hidden=8,depth=1,dropout=0)"
    }


@pytest.mark.slow
def test_the_command_line_searches_with_spaces_in_the_space_and_a_relative_storage(fork, capfd):
    given = {"space": "temperature=1..8 hidden=4, 6; depth=1", "storage": "mine.journal", "study_name": "my search"}
    assert main(["search", *options(**given, trials="3", seeds="1", temperatures="1")]) == 0
    assert (fork.folder / "mine.journal").stat().st_size
    assert {run.data.tags["kdops.search"] for run in trials_of(fork)} == {"my search"}
    assert {run.data.params["architecture"] for run in trials_of(fork)} <= {
        f"mlp(hidden={hidden},depth=1,dropout=0)" for hidden in (4, 6)
    }
    said = capfd.readouterr().out
    assert "Trials of my search: 3 complete" in said


def test_a_dry_run_writes_nothing(fork, capsys):
    before = len(fork.runs())
    fork.plan("search", **SMALL)
    assert len(fork.runs()) == before
    assert not (fork.folder / JOURNAL).exists()
    assert "12 x trial of a student" in capsys.readouterr().out


def test_the_folder_of_a_store_to_come_is_no_mistake(nowhere, monkeypatch):
    from kdops.config.settings import Settings
    from kdops.data.dataset import load
    from kdops.search.search import check, storage_of

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{nowhere.folder}/new/mlflow.db")
    settings = Settings.parse("search")
    check(settings, load("digits"))
    assert storage_of(settings) == f"{nowhere.folder}/new/{JOURNAL}"
    assert not (nowhere.folder / "new").exists()
    monkeypatch.setenv("KDOPS_SEARCH_STORAGE", "postgresql://me:secret@db/x")
    assert storage_of(settings) == "postgresql://me:secret@db/x"


def test_fresh_seeds_are_no_trials_seed():
    from kdops.config.settings import Settings

    settings = Settings.parse("search", seed="7", seeds="3")
    assert fresh_seeds(settings) == (8, 9, 10)


BAD = {
    "an unknown setting": ({"space": "width=3"}, "space=width=3: unknown setting 'width'"),
    "an empty range": ({"space": "hidden=8..8"}, "the range 8..8 of hidden is empty"),
    "a reversed range": ({"space": "hidden=9..8"}, "runs backwards"),
    "no trials": ({"trials": "0"}, "trials=0: must be a whole number from 1"),
    "no batch": ({"batch": "0"}, "batch=0: must be a whole number from 1"),
    "a sampler": ({"sampler": "grids"}, "sampler=grids: must be one of tpe(startup=10), random, grid(points=3)$"),
    "a pruner": ({"pruner": "yes"}, "pruner=yes: must be one of median(startup=10,warmup=3), none$"),
    "an objective": ({"objective": "test_accuracy"}, "objective=test_accuracy: must be one of"),
    "a role": ({"role": "teacher"}, "role=teacher: must be one of student, middle$"),
    "the test set": ({"select_on": "test"}, "select_on=test: must be validation"),
    "its own batch order": ({"order": "own"}, "order=own: must be shared"),
    "more trials than points": (
        {"space": "temperature=1 alpha=1 t_squared=true hidden=4,5 depth=1 learning_rate=0.01 batch_size=32"},
        "trials=12: the space has 2 points",
    ),
    "a password": (
        {"storage": "postgresql://me:hunter2@db/x"},
        "storage=postgresql://me:***@db/x: would be logged with its password; set KDOPS_SEARCH_STORAGE",
    ),
    "outputs of images as they are, and other views": (
        {"source": "outputs.npz", "space": "augment=none,crop=1 views=2"},
        "augment=crop=1,none: outputs were stored for the images as they are; give augment=none",
    ),
    "an option of no method": (
        {"space": "method=dist,nkd warmup=0.1"},
        "dist has beta, gamma, t_squared; nkd has gamma$",
    ),
    "a tap that a dense net lacks": ({"space": "method=logits,fitnet"}, "has no tap stage2; it has embedding"),
    "an epoch for two phases": (
        {"space": "method=logits,fitnet(at=embedding)", "epochs": "student=1"},
        "epochs=1: must be at least 2 for the phases of fitnet(at=embedding)",
    ),
    "a tree": ({"student": "tree"}, "a search is over dense and convolutional nets, mlp and cnn$"),
    "a size of dense nets": (
        {"student": "cnn(filters=4)"},
        "unknown setting 'hidden'; there are method, temperature, alpha, t_squared, filters, layers, dropout",
    ),
    "a tap that the smallest net lacks": (
        {"student": "cnn(filters=4,layers=3)", "space": "method=logits,fitnet layers=1..3"},
        "has no tap stage2",
    ),
    "features of views": (
        {"space": "method=logits,hint augment=none,shift=1"},
        "augment=shift=1: method=hint compares features",
    ),
    "a folder as storage": ({"storage": "."}, "cannot be opened"),
    "a storage nowhere": (
        {"storage": "/nowhere/at/all/j.log"},
        "cannot be opened: there is no folder /nowhere/at/all",
    ),
    "an unknown database": ({"storage": "nonsense://x"}, "storage=nonsense://x: cannot be opened"),
    "no model URI": ({"source": "teacher"}, "source=teacher: must be a model URI"),
    "no such version": ({"source": "models:/kdops-digits-teacher/99"}, "there is no such version"),
    "no such name": ({"source": "models:/nobody/1"}, "source=models:/nobody/1: there is no such version"),
    "no such run": ({"source": f"runs:/{'0' * 32}/model"}, "cannot be loaded"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line_before_a_run_exists(look, capsys, what):
    given, message = BAD[what]
    before = len(look.runs())
    assert main(["search", *options(**given)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in f"{line}$"
    assert len(look.runs()) == before


def test_a_name_that_another_search_has_is_refused(fork_of_searched, capsys):
    named = {"study_name": "mine", "trials": "2", "seeds": "1", "temperatures": "1"}
    searching(fork_of_searched, **named)
    before = len(fork_of_searched.runs())
    for other, what in (
        ({"space": "hidden=4,5"}, "space"),
        ({"objective": "val_nll"}, "objectives"),
        ({"seed": "1"}, "seed"),
    ):
        code = main(["search", *options(**{**named, **other})])
        (line,) = capsys.readouterr().err.splitlines()[-1:]
        assert code == 2
        assert f"study_name=mine: is taken by a search with another {what}" in line
    assert len(fork_of_searched.runs()) == before
    # Nor does a fresh one go on with it, whatever is equal.
    assert main(["search", *options(**named, fresh="true")]) == 2
    assert "study_name=mine: has 2 trials, and fresh begins another" in capsys.readouterr().err
    assert len(fork_of_searched.runs()) == before
    # Other epochs make other trials: found once the study is open, and told in one line too.
    with pytest.raises(UsageError, match="is taken by a search with another epochs"):
        searching(fork_of_searched, **named, epochs="teacher=2,student=4,middle=3")


def test_a_source_with_other_classes_is_refused(fork, capsys):
    import torch

    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))

    class Raw(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x.float())

    example = np.zeros((2, 1, 8, 8), np.uint8)
    with mlflow.start_run():
        info = mlflow.pytorch.log_model(
            Raw().eval(), name="three", input_example=example, pip_requirements=["torch"], registered_model_name="three"
        )
    for uri in ("models:/three/1", info.model_uri):
        assert main(["search", *options(source=uri)]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert "must give float [2, 10]" in line


@pytest.mark.slow
def test_four_processes_share_one_search_though_one_is_killed(fork):
    small = {"trials": "40", "batch": "3", "epochs": "teacher=2,student=30,middle=3"}
    command = [sys.executable, "-m", "pipelines.search", *options(**small)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "OMP_NUM_THREADS": "1"}
    processes = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    deadline = time.monotonic() + 600
    while not any(state == "running" for state in states_of(fork)) and time.monotonic() < deadline:
        time.sleep(0.05)
    pids = {int(run.data.tags["kdops.process"].split("/")[-2]) for run in trials_of(fork)}
    victim = next(process for process in processes if process.pid in pids)
    victim.send_signal(signal.SIGKILL)
    for process in processes:
        process.communicate(timeout=600)
    assert sorted(process.returncode for process in processes) == [-signal.SIGKILL, 0, 0, 0]
    table = table_of(fork, next(run for run in fork.studies() if run.info.status == "FINISHED"))
    counted = table[table["state"].isin(DONE)]
    assert len(counted) >= 40
    failed = table[table["state"] == "failed"]
    assert 1 <= len(failed) <= 3
    assert set(failed["number"]) <= set(table["again"].dropna())
    searching(fork, **small)
    assert not [run for run in fork.runs() if run.info.status == "RUNNING"]
    finished = [
        run.data.tags["kdops.trial"]
        for run in trials_of(fork)
        if run.data.tags["kdops.trial_state"] in ("complete", "pruned")
    ]
    assert sorted(map(int, finished)) == sorted(counted["number"])
