"""What must not grow unseen: the source's forward passes, and what is asked of MLflow for each model."""

import re
import subprocess
import sys
from collections import Counter

import pytest
import torch
from mlflow import MlflowClient
from sqlalchemy import event
from sqlalchemy.engine import Engine

from kdops.models.classifier import Classifier
from kdops.study import open as studies
from tests.conftest import FAST

CALLS_A_MODEL = 10
"""Of MLflow's client: run, model, state, inputs, outputs, version, its tag, all values, end."""

STATEMENTS_A_MODEL = 118
"""Of SQL; what MLflow asks for one model."""

COMMITS_A_MODEL = 20
"""Each appends to the database's log."""


@pytest.fixture
def seen():
    """Count the images that pass through convolutional nets in ``eval()``: here the teachers alone have such nets."""
    images = Counter()

    def count(net, given, _):
        convolves = any(isinstance(part, torch.nn.Conv2d) for part in net.modules())
        if isinstance(net, Classifier) and convolves and not net.training:
            images[id(net)] += len(given[0])

    hook = torch.nn.modules.module.register_module_forward_hook(count)
    yield images
    hook.remove()


@pytest.mark.parametrize(("temperatures", "epochs"), [((1,), 1), ((1, 2, 4, 8, 16), 4)])
def test_a_source_sees_each_transfer_image_once(store, seen, temperatures, epochs):
    """And each test image once, for the agreement: however many temperatures, epochs and sweeps learn from it."""
    settings = store.settings("students", seeds=1, epochs=f"teacher=1,student={epochs},middle=1")
    with studies.open_study("students", settings) as study:
        teachers = study.train("teacher")
        seen.clear()
        study.distill(teachers, "student", temperatures)
        split = study.split
        assert sum(seen.values()) == len(split.transfers[0]) + len(split.test)
        study.distill(teachers, "middle", temperatures)
        assert sum(seen.values()) == len(split.transfers[0]) + len(split.test)


def test_what_a_model_costs_in_the_store(store, monkeypatch):
    """The difference of two sweeps, so that what a study asks for once does not count."""
    calls, asked = Counter(), Counter()
    for name, method in list(vars(MlflowClient).items()):
        if callable(method) and not name.startswith("_") and name not in ("get_run", "tracking_uri"):
            monkeypatch.setattr(MlflowClient, name, _counted(name, method, calls))

    def statement(connection, cursor, text, *_):
        asked["statements"] += 1
        asked[re.match(r"\w+", text)[0].lower()] += 1

    def commit(connection):
        asked["commits"] += 1

    event.listen(Engine, "before_cursor_execute", statement)
    event.listen(Engine, "commit", commit)
    try:
        settings = store.settings("students", seeds=1, epochs="teacher=1,student=1,middle=1")
        with studies.open_study("students", settings) as study:
            teachers = study.train("teacher")
            found = []
            for temperatures in ((1,), (2, 3, 4, 5, 6)):
                calls.clear()
                asked.clear()
                study.distill(teachers, "student", temperatures)
                found.append((calls.total(), asked["statements"], asked["commits"]))
    finally:
        event.remove(Engine, "before_cursor_execute", statement)
        event.remove(Engine, "commit", commit)
    each = [(five - one) / 4 for one, five in zip(*found, strict=True)]
    assert 0 < each[0] <= CALLS_A_MODEL, calls
    assert 0 < each[1] <= STATEMENTS_A_MODEL, asked
    assert 0 < each[2] <= COMMITS_A_MODEL, asked


def _counted(name, method, calls):
    def counted(*given, **named):
        calls[name] += 1
        return method(*given, **named)

    return counted


AGAIN = """
import sys
from kdops.config.settings import Settings
from pipelines import transitivity
transitivity.main(Settings.parse("transitivity", **dict(word.split("=", 1) for word in sys.argv[1:])))
print("torch" in sys.modules, "sklearn" in sys.modules)
"""


@pytest.mark.slow
def test_a_study_that_finds_all_its_models_imports_no_torch(fork):
    command = [sys.executable, "-c", AGAIN, *(f"{name}={value}" for name, value in FAST.items())]
    again = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert again.returncode == 0, again.stderr
    assert "were there already and were reused" in again.stdout
    assert again.stdout.splitlines()[-1] == "False False"
