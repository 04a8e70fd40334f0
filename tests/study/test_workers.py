"""Whole studies through workers: the same with any number of them, and with workers that are killed."""

import random
import threading

import pytest

from kdops.training import processes
from kdops.training.worker import ATTEMPTS

pytestmark = pytest.mark.slow

TIMES = ("train_seconds", "latency_1", "latency_64")


def content(place, study):
    """Return what a study concluded, and what it measured of each model, without times."""
    models = [
        sorted((name, value) for name, value in run.data.metrics.items() if name not in TIMES)
        for run in place.children(study)
    ]
    return study.data.metrics, study.data.tags["kdops.verdict"], sorted(models), place.weights()


@pytest.mark.parametrize("workers", ["1", "2", "3"])
def test_a_study_is_the_same_with_any_number_of_workers(workers, store, done):
    study = store.run("transitivity", engine="processes", workers=workers)
    assert content(store, study) == content(done, done.studies()[0])
    # Another engine trains nothing.
    assert store.children(store.run("transitivity")) == []


def test_killed_workers_change_nothing(store, done, monkeypatch):
    drawn, kills, real = random.Random(0), [], processes._Worker.begin

    def begin(self, order, attempt, files):
        real(self, order, attempt, files)
        if attempt < ATTEMPTS and len(kills) < 20 and drawn.random() < 0.8:
            kills.append(attempt)
            threading.Timer(drawn.uniform(0, 4), self.process.kill).start()

    monkeypatch.setattr(processes._Worker, "begin", begin)
    study = store.run("transitivity", engine="processes", workers="2")
    assert content(store, study) == content(done, done.studies()[0])
    assert {run.info.status for run in store.runs()} == {"FINISHED"}
    assert len(kills) >= 5
