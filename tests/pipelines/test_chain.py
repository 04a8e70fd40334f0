"""Chains on digits, in this process and with real stores: what is trained from what, reused, compared and told."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kdops.cli.app import main, pipeline_main
from kdops.config.settings import Settings
from kdops.data import dataset as datasets
from kdops.data.splits import make_split
from kdops.errors import UsageError
from tests.conftest import Place, copy_database

DIGITS = datasets.load("digits")
LONG = "teacher>middle>middle:mlp(hidden=9,depth=2)>student>student"
BACK = {
    "steps": "teacher>student>teacher",
    "seeds": 1,
    "temperatures": "1",
    "epochs": "teacher=2,student=3,middle=3,reversed=1,born-again=1",
}


def table_of(place, run):
    return pd.read_csv(place.artifact(run, "results.csv"), dtype={"seed": str}, keep_default_na=False)


def test_a_chain_of_three_is_what_transitivity_asks(fork, done):
    parent = fork.run("chain")
    assert fork.calls == [], "its models are those of transitivity"
    first = done.studies()[0]
    told = {name.removeprefix("chain_"): value for name, value in parent.data.metrics.items() if "chain_" in name[:6]}
    known = {name.removeprefix("transitivity_"): value for name, value in first.data.metrics.items()}
    assert told.pop("cut") == known["hard_middles"]
    # Adjusted p-values are of all claims of a study, and transitivity makes more of them.
    plain = {name: value for name, value in told.items() if not name.endswith("_holm")}
    assert plain.items() <= known.items()
    assert {"difference", "low", "high", "p_equivalent", "margin", "direct_accuracy"} <= told.keys()
    assert parent.data.tags["kdops.verdict"] == first.data.tags["kdops.verdict"]
    if "distilled_middle_difference" in known:
        assert parent.data.metrics["distilled_chain_difference"] == known["distilled_middle_difference"]
    assert parent.info.run_name == "chain teacher>middle>student digits disjoint 2 seeds"


@pytest.fixture(scope="module")
def long(done, tmp_path_factory):
    """A finished chain of five steps beside the models of transitivity, and its run. Look at it and change nothing."""
    place = Place(tmp_path_factory.mktemp("long"))
    copy_database(done.database, place.database)
    with pytest.MonkeyPatch.context() as patch:
        return place, place.enter(patch).run("chain", steps=LONG)


@pytest.mark.slow
def test_a_long_chain_walks_from_best_to_best(long):
    place, parent = long
    models = table_of(place, parent)
    by_uri = models.set_index("model")
    for column in ("val_accuracy", "val_nll", "temperature"):
        models[column] = models[column].astype(float)

    def best(some):
        return some.sort_values(["val_accuracy", "val_nll", "temperature"], ascending=[False, True, True]).iloc[0]

    students = models[(models["role"] == "student") & (models["streams"] == "")]
    for seed in ("0", "1"):
        own = models[models["seed"] == seed]
        source = own[own["role"] == "teacher"].iloc[0]["model"]
        ways = {source}
        for role, stream, architecture in (
            ("middle", "", "mlp(hidden=16,depth=2,dropout=0)"),
            ("middle", "middle, step 3", "mlp(hidden=9,depth=2,dropout=0)"),
            ("student", "student, step 4", "mlp(hidden=8,depth=1,dropout=0)"),
        ):
            station = own[(own["role"] == role) & (own["streams"] == stream)]
            assert set(station["architecture"]) == {architecture}
            # Those of the way by the best of all: hard labels, and what learned from the best before.
            trained = station[(station["temperature"] == 0) | (station["source"] == source)]
            assert sorted(trained["temperature"]) == [0, 1, 4]
            source = best(trained)["model"]
            ways.add(source)
        # The last step is distilled from the teacher and from the best of every station.
        assert ways <= set(students.loc[(students["seed"] == seed), "source"])
    # A chain says what lies between a model and the labels, and no more.
    for record in models.to_dict("records"):
        before = by_uri.loc[record["source"], "chain"] + ">" if record["source"] != "labels" else ""
        assert record["chain"] == before + record["role"]

    answer = json.loads(place.artifact(parent, "answer.json").read_text())
    assert [claim["name"] for claim in answer["claims"]][:3] == ["chain", "station_1", "station_2"]
    rows = [row["what"] for row in answer["rows"]]
    expected = [
        "teacher",
        "student 2, hard labels",
        "student 2, direct",
        "middle 1, best by validation",
        "student 2 via middle 1",
        "middle 2, best by validation",
        "student 2 via middle 1 to middle 2",
        "student 1, best by validation",
        "student 2 via middle 1 to student 1",
    ]
    assert rows[: len(expected)] == expected
    assert rows[-1] == "student 2, best by validation"
    assert len(set(rows)) == len(rows)
    assert "| student 2 via middle 1 to student 1 |" in parent.data.tags["mlflow.note.content"]
    # Each way's row is the mean of its models, and its claim the difference to the direct row.
    numbers = {row["what"]: row["mean"] for row in answer["rows"]}
    for claim, way in zip(("station_1", "station_2", "chain"), expected[4::2], strict=True):
        assert answer["statistics"][f"{claim}_difference"] == pytest.approx(numbers[way] - numbers["student 2, direct"])
    assert {path.name for path in place.artifact(parent, "figures").iterdir()} == {
        "chain-steps.png",
        "chain-temperatures.png",
    }


def test_nets_of_one_role_start_apart_but_the_compared_ones_alike(long):
    place, parent = long
    # The first word of a training call names its random streams.
    streams = [call.role for call in place.calls]
    assert {"middle, step 3", "student, step 4", "student"} == set(streams)
    models = table_of(place, parent)
    assert set(models["role"]) == {"teacher", "middle", "student"}
    hard = models[models["temperature"].astype(float) == 0]
    # On hard labels the two students see the same images: only their start tells them apart.
    for _, own in hard[hard["role"] == "student"].groupby("seed"):
        assert set(own["streams"]) == {"", "student, step 4"}
        assert own["test_nll"].nunique() == 2
    names = [version.name for version in place.client.search_model_versions("", max_results=1000)]
    assert set(names) == {"kdops-digits-teacher", "kdops-digits-middle", "kdops-digits-student"}


def test_the_same_chain_again_trains_nothing_and_neither_does_its_beginning(long, tmp_path, monkeypatch):
    walked, first = long
    place = Place(tmp_path)
    copy_database(walked.database, place.database)
    place.enter(monkeypatch)
    again = place.run("chain", steps=LONG)
    assert place.calls == []
    assert again.data.metrics == first.data.metrics
    assert again.data.tags["kdops.verdict"] == first.data.tags["kdops.verdict"]
    place.run("chain", steps="teacher>middle>middle:mlp(hidden=9,depth=2)>student")
    assert place.calls == [], "its last step's nets are those of the shorter ways"


@pytest.mark.slow
def test_a_chain_that_was_cut_off_goes_on_to_the_very_same_weights(long, fork, monkeypatch):
    from mlflow import MlflowClient

    real, calls = MlflowClient.create_model_version, []

    def fails_in_the_third_station(*args, **named):
        calls.append(None)
        if len(calls) == 14:
            raise OSError("no room left")
        return real(*args, **named)

    monkeypatch.setattr(MlflowClient, "create_model_version", fails_in_the_third_station)
    with pytest.raises(OSError, match="no room left"):
        fork.run("chain", steps=LONG)
    assert fork.calls[-1].role == "student, step 4"
    finished = {run.info.run_id for run in fork.children() if run.info.status == "FINISHED"}
    parent = fork.run("chain", steps=LONG)
    weights = [
        sorted(run.data.tags["kdops.weights"] for run in place.children() if run.info.status == "FINISHED")
        for place in (fork, long[0])
    ]
    assert weights[0] == weights[1]
    assert finished < {run.info.run_id for run in fork.children()}
    assert parent.data.metrics == long[1].data.metrics


def test_the_other_commands_read_a_chain(long, capsys, monkeypatch, tmp_path):
    place, parent = long
    place.enter(monkeypatch)
    one, other = place.studies()[0].info.run_id, place.studies()[1].info.run_id
    assert parent.info.run_id == one
    assert main(["report", one, "--output", str(tmp_path / "report")]) == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "student 2 via middle 1 to student 1" in text
    assert "chain.steps" in text
    assert "(figures/chain-steps.png)" in text
    assert main(["compare", other, one]) == 0
    assert "chain.steps: - -> teacher>middle>" in capsys.readouterr().out
    student = table_of(place, parent).iloc[-1]["model"]
    assert main(["lineage", student]) == 0
    assert "labels of digits" in capsys.readouterr().out


@pytest.mark.slow
def test_an_ensemble_leaves_out_the_steps_inside_a_chain(fork, capsys):
    fork.run("chain", steps="teacher>student>student")
    inside = {r.data.tags["kdops.model"] for r in fork.children() if r.data.params.get("streams", "") != ""}
    assert len(inside) == 6
    fork.run("ensemble", controls="false", seeds="all")
    assert "4 of a step inside a chain" in capsys.readouterr().out
    voters = fork.studies()[0]
    assert not inside & set(table_of(fork, voters)["model"])


def test_there_and_back_again(store):
    parent = store.run("chain", **BACK)
    models = table_of(store, parent)
    chains = set(models["chain"])
    assert {"teacher>student", "teacher>born-again"} <= chains
    # Straight from the teacher it is born again, via the student reversed; both start alike.
    assert [call.role for call in store.calls if "student" not in call.role][:3] == ["teacher", "reversed", "reversed"]
    assert set(models["role"]) == {"teacher", "student", "born-again", "reversed"}
    assert set(models["streams"]) == {""} if "streams" in models else True
    assert "generation" not in parent.data.tags["mlflow.note.content"]


def test_a_chain_of_two_steps_asks_nothing(fork, capsys):
    parent = fork.run("chain", steps="teacher>student")
    assert fork.calls == []
    assert "kdops.verdict" not in parent.data.tags
    assert "A chain of two steps is the direct way itself." in capsys.readouterr().out


@pytest.mark.slow
def test_generations_of_one_net_are_told_as_such(fork, capsys):
    parent = fork.run("chain", steps="student>student:mlp(hidden=8)>student", seeds=1)
    models = table_of(fork, parent)
    assert set(models["role"]) == {"student"}
    assert [call.role for call in fork.calls][:3] == ["student, step 1", "student", "student, step 2"]
    # The first generation learns from labels on the teacher's images, its hard baseline on the transfer images.
    split = make_split(DIGITS, "disjoint", 0)
    for call, rows in zip(fork.calls, (split.teacher, split.hop(0), split.hop(0)), strict=False):
        np.testing.assert_array_equal(call.pixels, DIGITS.images[rows])
    first = models[models["streams"] == "student, step 1"]
    assert list(zip(first["temperature"].astype(float), first["source"], strict=True)) == [(0.0, "labels")]
    out = capsys.readouterr().out
    assert "generation 2 via generation 1" in out
    assert "The best of each: generation 0 " in out
    assert "generation 2, hard labels" in parent.data.tags["mlflow.note.content"]


@pytest.mark.slow
def test_each_hop_has_images_of_its_own_where_they_are_fresh(store):
    settings = {"seeds": 1, "transfer": "fresh", "temperatures": "1"}
    parent = store.run("chain", steps="teacher>middle>middle>student", **settings)
    split = make_split(DIGITS, "fresh", 0, 3)
    assert parent.data.tags["kdops.split"] == split.digest
    of_rows = {DIGITS.images[rows].tobytes(): n for n, rows in enumerate((split.teacher, *split.transfers))}
    seen = [(call.role, of_rows[call.pixels.tobytes()]) for call in store.calls]
    assert seen[:6] == [
        ("teacher", 0),
        ("student", 1),  # directly
        ("middle", 1),
        ("student", 2),  # via the first middle net
        ("middle, step 3", 2),
        ("student", 3),  # via both
    ]
    # The end of the chain has a baseline on its own images.
    hard = [
        n for (role, n), call in zip(seen, store.calls, strict=True) if role == "student" and (0, 0.0) in call.members
    ]
    assert hard == [1, 3]
    assert "student, hard labels on its own images" in parent.data.tags["mlflow.note.content"]


@pytest.mark.parametrize(("transfer", "same"), [("disjoint", True), ("shared", True), ("fresh", False)])
def test_only_fresh_images_are_dealt_anew_for_a_longer_chain(transfer, same):
    digests = [
        make_split(DIGITS, transfer, 0, Settings.parse("chain", steps=">".join(["student"] * n)).hops()).digest
        for n in (2, 3, 5)
    ]
    assert digests[0] == digests[1] == make_split(DIGITS, transfer, 0).digest
    assert (digests[2] == digests[0]) == same


def test_more_hops_than_there_are_images_is_the_callers_mistake():
    steps = ">".join(["student"] * 100)
    hops = Settings.parse("chain", steps=steps, transfer="fresh").hops()
    kept = DIGITS.labels != 0
    kept[np.flatnonzero(~kept)[:80]] = True
    few = replace(DIGITS, **{name: getattr(DIGITS, name)[kept] for name in ("images", "labels", "tracks", "test")})
    with pytest.raises(
        UsageError, match=r"dataset=digits: class '0' has \d+ images .* transfer \d+ part would lack it"
    ):
        make_split(few, "fresh", 0, hops)
    assert len(make_split(few, "disjoint", 0, hops).transfers) == 99


def test_a_dry_run_leaves_nothing_behind(nowhere, capsys):
    nowhere.plan("chain", steps="teacher>student>teacher>student")
    *steps, total = capsys.readouterr().out.splitlines()
    assert [line.split("(")[0] for line in steps] == [
        "2 x teacher cnn",
        "6 x student mlp",
        "6 x student mlp",
        "4 x student mlp",
        "6 x reversed cnn",
        "4 x student mlp",
        # Which of a station's nets is best is not known yet: the way by distilled ones may be another.
        "0 to 4 x student mlp",
        "0 to 4 x reversed cnn",
        "0 to 4 x student mlp",
    ]
    assert total.startswith("28 to 40 models, 28 to 40 to train, depending on which models are best: about ")
    assert list(nowhere.folder.iterdir()) == []


BAD = ["", "teacher", "teacher>", ">", "teacher>boss", "teacher>student:vit(depth=3)", "teacher>>student", "two\nlines"]


@pytest.mark.parametrize("value", BAD)
def test_bad_steps_end_with_one_line_and_no_run(value, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["chain", "--steps", value]) == 2
    with pytest.raises(SystemExit) as ended:
        pipeline_main("chain", pytest.fail, ["--steps", value])
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("kdops: steps=")
    assert second == first.replace("kdops: ", "chain: ")
    assert not list(tmp_path.iterdir()), "no store is made for a mistake"


def test_a_chain_may_go_on_from_distilled_models_alone(look):
    """The best distilled model of a station instead of the best, from nothing but what is there."""
    from kdops.config.chain import Chain, parse_steps
    from kdops.study.chain import distill_along, train_first
    from kdops.study.open import open_study

    chain = Chain(parse_steps("teacher>middle>student"))
    with open_study("chain", look.settings("chain", dry_run="true")) as study:
        first = train_first(study, chain)
        (station,) = distill_along(study, chain, first, study.settings.temperatures, only_distilled=True)
    assert station.best == study.best(station.models.soft())
    assert {record.source for record in station.onwards.records} == {record.uri for record in station.best.records}
