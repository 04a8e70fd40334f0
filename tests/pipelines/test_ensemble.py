"""Ensembles as studies: members from the registry, the vote that is registered, and what is refused."""

import json
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from kdops.cli.app import main, pipeline_main
from kdops.data import dataset as datasets
from kdops.data.splits import make_split
from kdops.ensembles.evaluation import EnsembleEvaluation
from kdops.errors import KdopsError
from kdops.packaging.loading import load_stored
from kdops.study.open import open_study
from kdops.sweeps.model import COPY_SEEDS
from pipelines import ensemble
from tests.conftest import PAPER, Place, copy_database

DIGITS = datasets.load("digits")
SPLIT = make_split(DIGITS, "disjoint", 0)
STUDENT, ENSEMBLE = "kdops-digits-student", "kdops-digits-ensemble"
FEW = ["--temperatures", "1,4", "--epochs", "teacher=2,student=3,middle=3"]


@pytest.fixture(scope="module")
def voted(done, tmp_path_factory):
    """The registry of a transitivity study, and an ensemble that was drawn from it."""
    place = Place(tmp_path_factory.mktemp("voted"))
    copy_database(done.database, place.database)
    with pytest.MonkeyPatch.context() as patch:
        place.enter(patch).run("ensemble")
    return place


@pytest.fixture
def fork_of_voted(voted, tmp_path, monkeypatch):
    """A copy of it, which goes on by itself."""
    place = Place(tmp_path)
    copy_database(voted.database, place.database)
    return place.enter(monkeypatch)


def results_of(place, run):
    return pd.read_csv(place.artifact(run, "results.csv"))


def answer_of(place, run):
    return json.loads(place.artifact(run, "answer.json").read_text())


def versions(place, name=ENSEMBLE):
    found = place.client.search_model_versions(f"name = '{name}'", max_results=1000)
    return sorted(found, key=lambda version: int(version.version))


def uri_of(version):
    return f"models:/{version.name}/{version.version}"


def predictions(uri, rows):
    """Return the classes that a registered model chooses, as anyone may ask it."""
    scores = mlflow.pyfunc.load_model(uri).predict(np.array(DIGITS.images[rows]))
    return np.asarray(scores).argmax(axis=1)


def majority(votes):
    """Return the class with most votes for each image; -1 where that is open."""
    counts = np.stack([(votes == label).sum(axis=0) for label in range(10)])
    top = counts.max(axis=0)
    return np.where((counts == top).sum(axis=0) == 1, counts.argmax(axis=0), -1)


def ended(capsys, *options):
    """Run ``ensemble`` in this process; give its exit code and what stands on stderr."""
    with pytest.raises(SystemExit) as ending:
        pipeline_main("ensemble", ensemble.main, [*FEW, *options])
    return ending.value.code, capsys.readouterr().err.splitlines()


def test_the_folder_of_another_ensemble_is_neither_used_nor_promoted(fork_of_voted, capsys):
    place, client = fork_of_voted, fork_of_voted.client
    place.run("ensemble", top=2, controls="false")
    first, second = versions(place, ENSEMBLE)[0], versions(place, ENSEMBLE)[-1]
    folders = [
        Path(client.get_logged_model(v.source.removeprefix("models:/")).artifact_location) for v in (first, second)
    ]
    swapped = place.folder / "swapped"
    shutil.copytree(folders[0], swapped)
    moved = folders[1].with_name("before")
    folders[1].rename(moved)
    swapped.rename(folders[1])
    assert load_stored(client, f"models:/{ENSEMBLE}/{first.version}").votes
    with pytest.raises(KdopsError, match="other members"):
        load_stored(client, f"models:/{ENSEMBLE}/{second.version}")
    assert main(["promote", f"{ENSEMBLE}/{second.version}"]) == 1
    # Nor are other weights under the names of the right members.
    shutil.copy(moved / "artifacts" / "members.json", folders[1] / "artifacts")
    with pytest.raises(KdopsError, match="is another one"):
        load_stored(client, f"models:/{ENSEMBLE}/{second.version}")


def test_members_are_the_direct_soft_students(voted):
    parent = voted.studies()[0]
    assert (parent.info.status, parent.data.tags["kdops.study"]) == ("FINISHED", "ensemble")
    table = results_of(voted, parent)
    members = table[table["role"] == "student"]
    assert set(members["chain"]) == {"teacher>student"}
    assert sorted(zip(members["seed"], members["temperature"], strict=True)) == [(0, 1), (0, 4), (1, 1), (1, 4)]
    assert members["reused"].all()
    assert set(parent.data.tags["kdops.reused"].split()) >= set(members["model"])
    # There are others, which were left out: it says so.
    assert len(versions(voted, STUDENT)) > len(members)
    assert any("not distilled straight from a teacher" in told for told in answer_of(voted, parent)["sentences"])


def test_the_controls_are_as_many_and_of_the_same_teachers(voted):
    table = results_of(voted, voted.studies()[0])
    teachers = set(table.loc[table["role"] == "student", "source"])
    reseeded, reordered = (table[table["role"] == role] for role in ("reseeded", "reordered"))
    assert sorted(reseeded["seed"]) == [0, 1, COPY_SEEDS, COPY_SEEDS + 1]
    assert reseeded["temperature"].nunique() == 1
    assert sorted(zip(reordered["seed"], reordered["temperature"], strict=True)) == [(0, 1), (0, 4), (1, 1), (1, 4)]
    assert set(reordered["order"]) == {"own"}
    assert set(reseeded["order"]) == {"shared"}
    assert set(reseeded["source"]) == set(reordered["source"]) == teachers
    for seed in (0, 1):
        own = table[table["seed"] % COPY_SEEDS == seed]
        assert own.loc[own["role"].isin(["student", "reseeded", "reordered"]), "source"].nunique() == 1
    # The temperature of the copies is the best on average by validation.
    soft = table[table["role"] == "student"].groupby("temperature")["val_accuracy"].mean()
    assert set(reseeded["temperature"]) == {soft.idxmax()}
    (call,) = [call for call in voted.calls if len({seed for seed, _ in call.members}) == 4]
    assert {temperature for _, temperature in call.members} == {soft.idxmax()}


def test_the_number_of_members_is_chosen_on_validation(whole):
    """Counted again from the members' own predictions."""
    (run,) = [run for run in whole.children() if run.data.tags["kdops.study"] == "ensemble" and _is_part(run)]
    table = results_of(whole, run)
    students = table[(table["role"] == "student") & table["temperature"].isin([1, 2, 4])]
    curves = {"val": [], "test": []}
    with pytest.MonkeyPatch.context() as patch:
        whole.enter(patch)
        for _, own in students.groupby("seed"):
            ranked = own.sort_values(["val_accuracy", "val_nll"], ascending=[False, True])
            for part, rows in (("val", SPLIT.validation), ("test", SPLIT.test)):
                nets = [mlflow.pytorch.load_model(uri) for uri in ranked["model"]]
                with torch.no_grad():
                    each = torch.stack([net(torch.from_numpy(DIGITS.images[rows])).softmax(1) for net in nets])
                votes = nn.functional.one_hot(each.argmax(2), 10).double()
                chosen = [(votes[:n].mean(0) * (n + 1) + each[:n].mean(0)).argmax(1) for n in (1, 2, 3)]
                curves[part].append([np.mean(c.numpy() == DIGITS.labels[rows]) for c in chosen])
    mean = np.mean(curves["val"], axis=0).round(9)
    size = int(mean.argmax()) + 1
    assert run.data.metrics["ensemble_size"] == size
    assert run.data.metrics["ensemble_members"] == 3
    single, together = np.mean(curves["test"], axis=0)[[0, size - 1]]
    assert run.data.metrics["ensemble_single_accuracy"] == pytest.approx(single)
    assert run.data.metrics["ensemble_accuracy"] == pytest.approx(together)
    assert run.data.metrics["ensemble_difference"] == pytest.approx(together - single)


def _is_part(run):
    return "kdops.role" not in run.data.tags


def test_each_replicate_has_a_registered_ensemble_that_names_its_members(voted):
    client, parent = voted.client, voted.studies()[0]
    found = versions(voted)
    assert [version.tags["seed"] for version in found] == ["0", "1"]
    size = int(parent.data.metrics["ensemble_size"])
    table = results_of(voted, parent).set_index("model")
    best = min(found, key=lambda v: (-float(v.tags["val_accuracy"]), float(v.tags["val_nll"]), int(v.version)))
    assert client.get_model_version_by_alias(ENSEMBLE, "champion").version == best.version
    for version in found:
        members = version.tags["source"].split()
        own = table[(table["role"] == "student") & (table["seed"] == int(version.tags["seed"]))]
        ranked = own.sort_values(["val_accuracy", "val_nll"], ascending=[False, True])
        assert members == list(ranked.index[:size])
        assert version.tags["chain"] == "teacher>student>ensemble"
        run = client.get_run(version.run_id)
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["kdops.source"].split() == members
        assert [one.model_id for one in run.inputs.model_inputs] == [
            client.get_run(table.loc[uri, "run_id"]).outputs.model_outputs[0].model_id for uri in members
        ]
        assert table.loc[uri_of(version), "role"] == "ensemble"
        assert not table.loc[uri_of(version), "reused"]


def test_the_registered_ensemble_is_the_majority_of_its_members(fork_of_voted):
    settings = fork_of_voted.settings("ensemble", transfer="disjoint", split_seed=0, seeds=2)
    with open_study("ensemble", settings) as study:
        students = study.distill(study.train("teacher"), "student", [0.0, 1.0, 4.0])
        # Three members, with the one on hard labels: a majority that no single member decides.
        election = EnsembleEvaluation(study, {seed: students.of_seed(seed) for seed in students.seeds})
        found = {record.seed: record for record in election.register(3).records}
        study.conclude("ensemble", ensemble.Answer())
    assert sorted(found) == [0, 1]
    record = found[1]
    members = [predictions(uri, SPLIT.test) for uri in record.source.split()]
    assert len(members) == 3
    assert len({tuple(one) for one in members}) == 3
    chosen, wanted = predictions(record.uri, SPLIT.test), majority(np.stack(members))
    assert (wanted >= 0).mean() > 0.1
    np.testing.assert_array_equal(chosen[wanted >= 0], wanted[wanted >= 0])
    # A tie goes to one of those with a vote.
    assert (chosen == np.stack(members)).any(axis=0).all()
    told = fork_of_voted.client.get_run(record.run_id).data.metrics
    assert told["test_accuracy"] == pytest.approx(np.mean(chosen == DIGITS.labels[SPLIT.test]))
    scores = mlflow.pyfunc.load_model(record.uri).predict(np.array(DIGITS.images[:5]))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)


def test_the_same_ensemble_again_trains_and_registers_nothing(fork_of_voted, voted):
    before, first = len(voted.runs()), voted.studies()[0]
    parent = fork_of_voted.run("ensemble")
    assert fork_of_voted.calls == []
    assert len(fork_of_voted.runs()) == before + 1
    assert [uri_of(v) for v in versions(fork_of_voted)] == [uri_of(v) for v in versions(voted)]
    assert parent.data.metrics == first.data.metrics
    assert set(parent.data.tags["kdops.reused"].split()) == set(results_of(voted, first)["model"])


@pytest.mark.slow
def test_an_ensemble_after_the_paper_reuses_its_controls(fork_of_whole, whole):
    before = {run.info.run_id for run in whole.runs()}
    given = {name: PAPER[name] for name in ("temperatures", "epochs")}
    parent = fork_of_whole.run("ensemble", **given)
    assert fork_of_whole.calls == []
    assert {run.info.run_id for run in fork_of_whole.runs()} - before == {parent.info.run_id}
    (part,) = [run for run in whole.children() if run.data.tags["kdops.study"] == "ensemble" and _is_part(run)]
    assert parent.data.metrics == part.data.metrics
    assert parent.data.tags["kdops.verdict"] == part.data.tags["kdops.verdict"]
    assert len(versions(fork_of_whole)) == len(versions(whole)) == 2


@pytest.mark.slow
def test_fresh_controls_have_the_weights_of_the_first_ones(fork_of_voted):
    parent = fork_of_voted.run("ensemble", fresh="true", model=",".join(students_of(fork_of_voted, (0,))))
    made = {run.data.tags["kdops.role"] for run in fork_of_voted.children(parent)}
    assert made == {"reseeded", "reordered", "ensemble"}
    assert len(fork_of_voted.trained()) == 4
    told = results_of(fork_of_voted, parent)
    again = told[told["role"] == "reordered"].set_index("temperature")["val_accuracy"]
    table = results_of(fork_of_voted, fork_of_voted.studies()[1])
    first = table[(table["role"] == "reordered") & (table["seed"] == 0)].set_index("temperature")["val_accuracy"]
    assert again[first.index].equals(first)
    assert set(told.loc[told["role"] != "student", "reused"]) == {False}


def students_of(place, seeds):
    """Return the direct students of some replicates."""
    return [
        uri_of(version)
        for version in versions(place, STUDENT)
        if version.tags["chain"] == "teacher>student" and int(version.tags["seed"]) in seeds
    ]


def test_the_best_two_of_each_replicate(fork_of_whole, whole, capsys):
    table = results_of(whole, whole.studies()[-1])
    students = table[(table["chain"] == "teacher>student") & table["temperature"].isin([1, 2, 4])]
    ranked = students.sort_values(["val_accuracy", "val_nll"], ascending=[False, True])
    temperatures = set(ranked.groupby("seed").head(2)["temperature"])
    fork_of_whole.plan("ensemble", temperatures=PAPER["temperatures"], epochs=PAPER["epochs"], top=2)
    reseeded, reordered, _ = capsys.readouterr().out.splitlines()
    assert reseeded.startswith("4 x reseeded ")
    assert reordered.startswith(f"{2 * len(temperatures)} x reordered ")
    assert ", 0 to train, " in reseeded
    assert ", 0 to train, " in reordered


def test_more_than_there_are_is_refused_before_a_run_is_made(look, capsys):
    before = len(look.runs())
    code, (line,) = ended(capsys, "--top", "3")
    assert code == 2
    assert line == "ensemble: top=3: there are 2 members in replicate 0; give at most 2"
    assert len(look.runs()) == before


@pytest.mark.slow
def test_other_roles_vote_without_controls(fork):
    parent = fork.run("ensemble", role="middle")
    assert fork.calls == []
    table = results_of(fork, parent)
    assert {"middle", "ensemble"} == set(table["role"])
    assert set(table.loc[table["role"] == "middle", "chain"]) <= {"teacher>middle", "middle"}
    assert [version.tags["chain"] for version in versions(fork)] == ["teacher>middle>ensemble"] * 2
    assert any("no controls" in told for told in answer_of(fork, parent)["sentences"])


@pytest.mark.parametrize("seeds", [(1,), (0, 1)], ids=["one replicate", "two replicates"])
def test_listed_versions_make_one_ensemble(seeds, fork_of_voted):
    students = students_of(fork_of_voted, seeds)
    before = len(versions(fork_of_voted))
    parent = fork_of_voted.run("ensemble", model=",".join(students))
    assert fork_of_voted.calls == []
    assert parent.data.tags["kdops.verdict"] == "inconclusive"
    assert parent.data.metrics["ensemble_replicates"] == 1
    assert parent.data.metrics["ensemble_members"] == len(students)
    table = results_of(fork_of_voted, parent)
    assert set(table.loc[table["role"] == "student", "model"]) == set(students)
    # Of one replicate there is a control: copies from its teacher. What mixes teachers has none.
    assert ("reseeded" in set(table["role"])) is (len(seeds) == 1)
    (made,) = table.loc[table["role"] == "ensemble", "model"]
    assert set(table.set_index("model").loc[made, "source"].split()) <= set(students)
    assert len(versions(fork_of_voted)) - before <= 1


class Foreign(nn.Module):
    """What someone else may have registered: a net of its own making."""

    def __init__(self, shift):
        super().__init__()
        stream = torch.Generator().manual_seed(shift)
        self.weight = nn.Parameter(torch.randn(64, 10, generator=stream))

    def forward(self, images):
        return images.flatten(1).float() / 255 @ self.weight


def put(net, example, name="theirs"):
    """Register a network as anyone does, without pickle."""
    signature = mlflow.models.infer_signature(example.numpy(), net(example).detach().numpy())
    with mlflow.start_run():
        info = mlflow.pytorch.log_model(
            net.eval(),
            name="model",
            registered_model_name=name,
            serialization_format="pt2",
            input_example=example.numpy(),
            signature=signature,
            pip_requirements=["torch"],
        )
    return f"models:/{name}/{info.registered_model_version}"


@pytest.mark.slow
def test_a_foreign_classifier_votes_beside_a_student(fork_of_voted):
    example = torch.from_numpy(np.array(DIGITS.images[:2]))
    theirs = put(Foreign(0), example)
    ours = uri_of(versions(fork_of_voted, STUDENT)[-1])
    parent = fork_of_voted.run("ensemble", model=f"{theirs},{ours}")
    assert parent.info.status == "FINISHED"
    assert fork_of_voted.calls == []
    table = results_of(fork_of_voted, parent).set_index("model")
    assert table.loc[theirs, "role"] == "foreign"
    right = np.mean(predictions(theirs, SPLIT.test) == DIGITS.labels[SPLIT.test])
    assert table.loc[theirs, "test_accuracy"] == pytest.approx(right)
    made = versions(fork_of_voted)[-1]
    assert set(made.tags["source"].split()) <= {theirs, ours}


def test_a_foreign_model_that_cannot_vote_is_refused_before_a_run_is_made(fork_of_voted, capsys):
    theirs = put(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), torch.zeros(2, 1, 8, 8))
    ours = uri_of(versions(fork_of_voted, STUDENT)[-1])
    capsys.readouterr()
    before = len(fork_of_voted.runs())
    code, lines = ended(capsys, "--model", f"{ours},{theirs}")
    assert code == 2
    assert lines[-1].startswith(f"ensemble: model={theirs}: ")
    assert len(fork_of_voted.runs()) == before


@pytest.mark.slow
def test_the_newest_transfer_setting_is_found(store, capsys):
    store.run("students", transfer="shared", seeds=1)
    capsys.readouterr()
    store.plan("ensemble")
    reseeded, reordered, _ = capsys.readouterr().out.splitlines()
    shared = make_split(DIGITS, "shared", 0)
    assert len(shared.hop(0)) != len(SPLIT.hop(0))
    for line, role in ((reseeded, "reseeded"), (reordered, "reordered")):
        assert line.startswith(f"2 x {role} ")
        assert f"on {len(shared.hop(0))} images, 2 to train" in line
    # Who asks for another setting is told what there is.
    code, lines = ended(capsys, "--transfer", "disjoint")
    assert (code, len(lines)) == (2, 1)
    assert "give transfer=shared" in lines[0]


@pytest.mark.parametrize("there", [True, False], ids=["an empty registry", "no store"])
def test_without_models_the_study_to_run_first_is_named(there, request, capsys):
    place = request.getfixturevalue("store" if there else "nowhere")
    before = sorted(path.name for path in place.folder.iterdir())
    code, (line,) = ended(capsys)
    assert code == 2
    assert line.startswith("ensemble: model=kdops-digits-student: ")
    assert "run `kdops students --dataset digits" in line
    assert place.runs() == [] if there else sorted(path.name for path in place.folder.iterdir()) == before == []
