"""A trained model is attacked from the command line: a table, metrics and a figure on its own run."""

import math

import pytest

from kdops.cli.app import main

QUICK = "fgsm(epsilon=0.4),cw2(iterations=25,searches=3)"


def said(capsys, *arguments, code=0):
    capsys.readouterr()
    assert main(["probe", *arguments]) == code
    told = capsys.readouterr()
    return told.out.splitlines(), told.err.splitlines()


def test_models_are_attacked_together_and_each_has_the_result_on_its_run(store, capsys):
    store.run("teacher", teacher="mlp(hidden=8)", seeds="2", epochs="3")
    names = ["kdops-digits-teacher/1", "kdops-digits-teacher/2"]
    before = store.weights()
    out, err = said(capsys, *names, "--attack", QUICK, "--images", "30")
    assert err == []
    rows = [line.split() for line in out if line.startswith("kdops-digits")]
    assert [row[:2] for row in rows] == [[name, attack] for attack in ("fgsm", "cw2") for name in names]
    runs = {run.data.tags["kdops.model"].removeprefix("models:/"): run for run in store.children()}
    for row in rows:
        run, attack = runs[row[0]], row[1]
        measured = {name: run.data.metrics[f"attack_{attack}_{name}"] for name in ("images", "success", "wrong_before")}
        assert measured["images"] + measured["wrong_before"] == 30
        assert row[2] == f"{measured['images']:g}"
        assert row[3] == f"{measured['success']:.3f}"
        assert run.data.tags[f"kdops.attack.{attack}"].endswith("on 30 test images")
        assert store.artifact(run, f"attacks/{attack}.png").read_bytes().startswith(b"\x89PNG")
    assert all(run.data.metrics["attack_cw2_success"] > 0.5 for run in runs.values())
    assert store.weights() == before
    assert len(store.children()) == 2


def test_nothing_of_an_earlier_attack_is_left_beside_one_that_misleads_nothing(store, capsys):
    store.run("teacher", teacher="mlp(hidden=8)", seeds="1", epochs="3")
    (run,) = store.children()
    figures = []
    for epsilon in ("0.4", "1e-9"):
        said(capsys, "kdops-digits-teacher/1", "--attack", f"fgsm(epsilon={epsilon})", "--images", "30")
        (run,) = store.children()
        figures.append(store.artifact(run, "attacks/fgsm.png").read_bytes())
    assert run.data.metrics["attack_fgsm_success"] == 0
    assert all(math.isnan(run.data.metrics[f"attack_fgsm_{norm}"]) for norm in ("l0", "l2", "linf"))
    assert figures[0] != figures[1]
    assert main(["runs"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("kdops-digits-teacher/1", "--attack", "carlini"), "attack=carlini: must be one of fgsm"),
        (("kdops-digits-teacher/1", "--attack", "cw2(iterations=0)"), "iterations must be a whole number"),
        (("kdops-digits-teacher/1", "--images", "0"), "images=0: must be"),
        (("kdops-digits-teacher/1", "--knowledge", "--grid", "1"), "grid=1: must be"),
        (("kdops-digits-teacher/1", "--unseen", "3,7"), "unseen=3,7: names the classes of --open-set; give that too"),
        (("kdops-digits-teacher/1", "--layer", "stage1"), "layer=stage1: is for --knowledge; give that too"),
        (("kdops-digits-teacher/1", "--open-set", "--grid", "4"), "grid=4: is for --knowledge; give that too"),
        (("digits",), "digits"),
    ],
)
def test_a_mistake_is_one_line(nowhere, capsys, arguments, words):
    out, err = said(capsys, *arguments, code=2)
    assert out == []
    (line,) = err
    assert words in line


def test_what_models_use_of_images_is_drawn_on_their_runs(store, capsys):
    store.run("teacher", teacher="mlp(hidden=8)", seeds="2", epochs="3")
    names = ["kdops-digits-teacher/1", "kdops-digits-teacher/2"]
    out, err = said(capsys, *names, "--knowledge", "--grid", "4", "--images", "9")
    assert err == []
    rows = [line.split() for line in out if line.startswith("kdops-digits")]
    assert [row[:3] for row in rows] == [[name, "embedding", "9"] for name in names]
    runs = {run.data.tags["kdops.model"].removeprefix("models:/"): run for run in store.children()}
    for row in rows:
        run = runs[row[0]]
        assert row[3] == f"{run.data.metrics['knowledge_points']:.3f}"
        assert run.data.tags["kdops.knowledge"].startswith("layer=embedding grid=4 threshold=0.2 on 9 test images")
        assert store.artifact(run, "knowledge/embedding.png").read_bytes().startswith(b"\x89PNG")
        assert not any(name.startswith("attack_") for name in run.data.metrics)
    out, err = said(capsys, names[0], "--knowledge", "--layer", "stage1", code=2)
    assert out == []
    assert "layer=stage1: the model has no such tap" in err[0]
    _, err = said(capsys, names[0], "--open-set", "--unseen", "3,3", code=2)
    assert err[0].startswith("kdops: unseen=3,3: must be two or more of 0, 1, 2")


@pytest.mark.slow
def test_models_are_tried_on_the_classes_that_their_training_left_out(store, capsys):
    nets = {"teacher": "mlp(hidden=8)", "student": "mlp(hidden=8)"}
    store.run("students", temperatures="1", seeds="1", epochs="3", leave_out="3,7", **nets)
    names = [f"kdops-digits-student/{number}" for number in (1, 2)]
    out, err = said(capsys, *names, "--open-set")
    assert err == []
    rows = [line.split() for line in out if line.startswith("kdops-digits")]
    assert [row[:2] for row in rows] == [[name, "2"] for name in names]
    runs = {run.data.tags["kdops.model"].removeprefix("models:/"): run for run in store.children()}
    for row in rows:
        metrics = runs[row[0]].data.metrics
        assert row[2:] == [f"{metrics['open_set_recall']:.4f}", f"{metrics['open_set_auc']:.4f}"]
        assert 0 < metrics["open_set_auc"] < 1
        assert runs[row[0]].data.tags["kdops.open_set"] == "on 3, 7"
    _, err = said(capsys, "kdops-digits-teacher/1", "--open-set", code=2)
    assert err == ["kdops: unseen=(empty): kdops-digits-teacher/1 saw all classes; name those that it did not see"]
    _, err = said(capsys, names[0], "--open-set", "--unseen", "3,eleven", code=2)
    assert err[0].startswith("kdops: unseen=3,eleven: must be two or more of 0, 1, 2")
