"""The study of students: its verdict is about these data, whoever is distilled from."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

from kdops.data import dataset as datasets
from tests.study.test_sources import Shares, registered

TEACHER = "kdops-digits-teacher/1"


def answer_of(place, parent):
    return json.loads(place.artifact(parent, "answer.json").read_text())


@pytest.mark.parametrize("source", ["", f"models:/{TEACHER}"])
def test_the_verdict_is_whether_distillation_helps_on_these_data(fork, source, capsys):
    parent = fork.run("students", source=source)
    answer = answer_of(fork, parent)
    assert parent.data.tags["kdops.verdict"] == answer["word"] == "inconclusive"
    assert [claim["name"] for claim in answer["claims"]] == ["distillation", "over_temperatures"]
    assert answer["findings"] == [], "digits are not the data of the paper"
    students = [
        data
        for data in (run.data for run in fork.children())
        if data.tags.get("kdops.chain") in ("teacher>student", "student")
        and (not source or data.tags["kdops.source"] in (source, "labels"))
    ]
    chosen = answer["statistics"]["distillation_temperature"]
    reached = dict.fromkeys((1.0, 4.0), 0.0)
    for data in students:
        if (temperature := float(data.params["temperature"])) in reached:
            reached[temperature] += data.metrics["val_accuracy"]
    assert reached[chosen] == pytest.approx(max(reached.values()))
    rows = {row["what"]: row for row in answer["rows"]}
    assert rows[f"source, {TEACHER}" if source else "teacher"]["models"] == (1 if source else 2)
    at_chosen = rows[f"students, best T = {chosen:g}"]
    assert answer["statistics"]["distillation_accuracy"] == pytest.approx(at_chosen["mean"])
    gain = at_chosen["mean"] - rows["student, hard labels"]["mean"]
    assert answer["statistics"]["distillation_difference"] == pytest.approx(gain)
    assert "Training takes" in capsys.readouterr().out
    assert fork.artifact(parent, "figures/confusion-student.png").stat().st_size > 5000
    classes = pd.read_csv(fork.artifact(parent, "classes-student.csv"))
    assert classes["images"].sum() == 359
    best = min(students, key=lambda data: (-data.metrics["val_accuracy"], data.metrics["val_nll"]))
    right = (classes["recall"] * classes["images"]).sum() / classes["images"].sum()
    assert right == pytest.approx(best.metrics["test_accuracy"])
    assert classes["recall"].mean() == pytest.approx(best.metrics["test_balanced_accuracy"])
    assert all("balanced" not in row for row in answer["rows"]), "ten classes of nearly one size"
    assert fork.artifact(parent, "figures/figure-1-students.png").stat().st_size > 5000


def test_a_source_of_others_has_a_row_with_its_own_accuracy(fork, capsys):
    registered("shares", Shares())
    parent = fork.run("students", source="models:/shares/1", seeds="1", temperatures="1", epochs="1")
    data = datasets.load("digits", "")
    right = Shares()(torch.from_numpy(data.images[data.test])).argmax(1).numpy() == data.labels[data.test]
    (row,) = (row for row in answer_of(fork, parent)["rows"] if row["what"].startswith("source"))
    assert row["what"] == "source, shares/1"
    assert row["mean"] == pytest.approx(right.mean())
    assert "student models from shares/1" in capsys.readouterr().err


def test_the_short_way_trains_one_teacher_and_ends_with_a_champion(store, capsys):
    parent = store.run("distill", temperatures="4")
    assert [one for one in store.trained() if one[0] == "teacher"] == [("teacher", 0, 0.0)]
    assert {one for one in store.trained() if one[0] == "student"} == {
        ("student", s, t) for s in (0, 1) for t in (0, 4)
    }
    teacher, student = "models:/kdops-digits-teacher/1", "models:/kdops-digits-student/"
    sources = {run.data.tags["kdops.source"] for run in store.children(parent)}
    assert sources == {"labels", teacher}
    assert parent.data.tags["kdops.verdict"] == "inconclusive"
    assert "Intervals are over students' seeds" in parent.data.tags["mlflow.note.content"]
    champion = store.client.get_model_version_by_alias("kdops-digits-student", "champion").version
    assert f"alias champion: {student}{champion}, {teacher}" in capsys.readouterr().out
    before = len(store.trained())
    again = store.run("distill", temperatures="4")
    assert len(store.trained()) == before, "the registered teacher is the source, and all students are there"
    told = (
        "The source is the registered teacher kdops-digits-teacher/1, with these settings, the best of 1 on validation"
    )
    assert f"{told}; --fresh true trains one." in again.data.tags["mlflow.note.content"]
    for other in ({"epochs": "teacher=1,student=3"}, {"teacher": "mlp(hidden=8)"}):
        capsys.readouterr()
        store.plan("distill", temperatures="4", **other)
        assert re.search(r"1 x teacher .* 1 to train", capsys.readouterr().out), (
            "no registered teacher has these settings"
        )


def rare(folder):
    """Write a table of 400 rows of which 12 are positive, for reasons that its columns show in part."""
    stream = np.random.default_rng(0)
    label = np.arange(400) % 33 == 0
    columns = {f"x{number}": stream.normal(size=400) + label * number for number in range(3)}
    pd.DataFrame({**columns, "label": np.where(label, "yes", "no")}).to_csv(folder / "rare.csv", index=False)
    return f"csv:{folder / 'rare.csv'}"


def test_rare_classes_are_not_overlooked(store, tmp_path, capsys):
    given = {"seeds": "1", "temperatures": "2", "epochs": "2", "select_by": "balanced_accuracy"}
    parent = store.run("distill", dataset=rare(tmp_path), **given)
    answer, told = answer_of(store, parent), capsys.readouterr().out
    rows = {row["what"]: row for row in answer["rows"]}
    assert rows["always no"]["balanced"] == 0.5
    assert rows["always no"]["mean"] == pytest.approx(0.97, abs=0.01)
    assert all("balanced" in row for row in rows.values())
    assert "balanced" in told
    assert re.search(r"Classes differ 3\d-fold in size: to answer always no is right on 9[67]\.\d\d %", told)
    below = [name for name, row in rows.items() if row["models"] and row["mean"] <= rows["always no"]["mean"]]
    assert ("No more than that answer reach: " in told) == bool(below)
    assert all(name in told for name in below)
    students = [run.data for run in store.children(parent) if run.data.tags["kdops.role"] == "student"]
    assert all({"test_auc", "test_macro_f1", "val_macro_f1"} <= data.metrics.keys() for data in students)
    assert "chosen on validation by balanced_accuracy" in parent.data.tags["mlflow.note.content"]


def test_a_search_looks_for_the_score_that_is_asked_for(fork):
    score = "macro_f1"
    given = {"objective": score, "trials": "2", "space": "temperature=1,4", "sampler": "grid", "seeds": "1"}
    parent = fork.run("search", temperatures="1", **given)
    trials = pd.read_csv(fork.artifact(parent, "trials.csv"))
    assert trials[score].max() == pytest.approx(answer_of(fork, parent)["statistics"][f"best_{score}"])
    run = fork.client.get_run(trials.loc[0, "run_id"])
    assert run.data.metrics[f"val_{score}"] == pytest.approx(trials.loc[0, score])
