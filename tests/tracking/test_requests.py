"""How often the store is asked does not depend on how many models it has."""

from collections import Counter

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from benchmarks.copied_store import copy_studies
from kdops.cli.app import main

MODEL = "kdops-digits-student/1"
FEW = 6


@pytest.fixture
def asked(apart, monkeypatch):
    """Return what counts the requests of an action, by the method of MLflow's client."""
    counts = Counter()
    for name, method in vars(MlflowClient).items():
        if callable(method) and not name.startswith("_"):
            monkeypatch.setattr(MlflowClient, name, counted(counts, name, method))

    def requests(action):
        counts.clear()
        action()
        return Counter(counts)

    return requests


def counted(counts, name, method):
    def call(*given, **named):
        counts[name] += 1
        answer = method(*given, **named)
        if name == "search_runs":
            counts["runs"] += len(answer)
        return answer

    return call


def command(*arguments):
    def action():
        assert main(list(arguments)) == 0

    return action


@pytest.mark.parametrize("what", ["predict", "export", "runs", "candidates", "plan", "reuse", "study"])
def test_a_store_of_five_models_and_one_of_fifty_are_asked_equally_often(what, apart, asked, capsys):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("one.png")
    seeds = iter((100, 200))

    def study():
        apart.run("students", seeds=1, seed=next(seeds), temperatures="1")

    action = {
        "predict": command("predict", MODEL, "one.png"),
        "export": command("export", MODEL, "--format", "pt2"),
        "runs": command("runs", "--role", "student"),
        "candidates": command("candidates"),
        "plan": lambda: apart.plan("students", seeds=1, seed=300, temperatures="1"),
        "reuse": lambda: apart.run("students", seeds=1),
        "study": study,
    }[what]
    few = asked(action)
    copy_studies(apart.folder, 50)
    assert len(apart.children()) >= 50
    many = asked(action)
    few.pop("runs", 0)
    many.pop("runs", 0)
    if what in ("reuse", "study"):
        # A few more or less, as the champion of a role is another one now or is not.
        assert abs(few.total() - many.total()) <= FEW, (few, many)
    else:
        assert few == many


@pytest.mark.parametrize("arguments", [("lineage", MODEL), ("runs", "--source", "kdops-digits-teacher/1"), ("gc",)])
def test_finished_runs_that_nothing_depends_on_are_not_read(arguments, apart, asked, capsys):
    few = asked(command(*arguments))
    copy_studies(apart.folder, 50)
    many = asked(command(*arguments))
    assert few == many
