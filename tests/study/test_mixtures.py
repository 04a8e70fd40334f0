"""Copies of a replicate's model as one source."""

import numpy as np
import pytest

from kdops.config.settings import HARD
from kdops.study.open import open_study
from kdops.study.summary import describe_sweep
from kdops.sweeps.model import LABELS, Model

BRIEF = {"epochs": "2", "seeds": "1", "temperatures": "4"}


def distill_copies(place, **given):
    """Distill a replicate's students from two teachers together; return the source and the students."""
    with open_study("students", place.settings("students", **BRIEF, **given)) as study:
        source = study.averaged(study.train("teacher", copies=range(2)))
        students = study.distill(source, "student", [HARD, 4.0])
        study.stop_if_planned()
        return source, students


def test_copies_as_one_source_are_the_models_that_a_caller_names_as_one_source(store, capsys):
    distill_copies(store, dry_run="true")
    assert "4 models, 4 to train" in capsys.readouterr().out
    source, students = distill_copies(store)
    assert "2 student models from 2 models together" in capsys.readouterr().err
    parent = store.run("students", source=",".join(source.records[0].uri.split()), **BRIEF)
    named = {run.data.tags["kdops.weights"] for run in store.children(parent)}
    assert {one.weights for one in students.soft().records} <= named
    distill_copies(store, dry_run="true")
    assert "4 models, 0 to train" in capsys.readouterr().out


def test_copies_as_one_source_are_measured_by_their_mean_probability(store):
    with open_study("students", store.settings("students", **BRIEF)) as study:
        teachers = study.train("teacher", copies=range(2))
        source = study.averaged(teachers)
        rows = study.split.test
        mean = np.mean([study.logits(one, rows).softmax(1).numpy() for one in teachers.records], axis=0)
        wanted = float((mean.argmax(axis=1) == study.data.labels[rows]).mean())
    assert source.accuracies() == pytest.approx([wanted])


def test_a_sweep_says_how_many_models_it_was_distilled_from():
    source = Model("foreign", 0, float("nan"), "teacher", "", "models:/a/1 models:/a/2 models:/a/3")
    student = Model("student", 0, 4.0, "teacher>student", LABELS, "models:/s/1", metrics={"test_accuracy": 0.5})
    assert describe_sweep("student", [student], [source]).startswith("1 student model from 3 models together, ")
