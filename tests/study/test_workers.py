"""Whole studies through workers: the same with any number of them, and with workers that are killed."""

import random
import subprocess
import threading
from contextlib import suppress

import psutil
import pytest

from kdops.config.engines import ENGINES
from kdops.training.attempts import ATTEMPTS
from kdops.utils.imports import load_place

WORKERS = {
    "processes": "kdops.training.processes:_Process",
    "ray": "kdops.training.ray:_RayWorker",
    "dask": "kdops.training.dask:_DaskWorker",
}

pytestmark = pytest.mark.slow

TIMES = ("train_seconds", "train_peak_bytes", "latency_1", "latency_64")


def content(place, study):
    """Return what a study concluded, and what it measured of each model, without times."""
    models = [
        sorted((name, value) for name, value in run.data.metrics.items() if name not in TIMES)
        for run in place.children(study)
    ]
    return study.data.metrics, study.data.tags["kdops.verdict"], sorted(models), place.weights()


CASES = [
    ("processes", "1"),
    ("processes", "2"),
    ("processes", "3"),
    *[(own, n) for own in ("ray", "dask") for n in "12"],
]


@pytest.mark.parametrize(("engine", "workers"), CASES)
def test_a_study_is_the_same_with_any_number_of_workers(engine, workers, store, done):
    if ENGINES[engine].package:
        pytest.importorskip(ENGINES[engine].package)
    study = store.run("transitivity", engine=engine, workers=workers)
    assert content(store, study) == content(done, done.studies()[0])
    assert study.data.tags["kdops.engine"] == f"{engine}, workers={workers}"
    # Another engine trains nothing.
    assert store.children(store.run("transitivity")) == []


def processes_of(worker):
    """Return the process of a worker; of a cluster, whose own processes keep them, those of all workers."""
    if isinstance(worker.handle, subprocess.Popen):
        return [worker.handle]
    below = psutil.Process().children(recursive=True)
    return [one for one in below if one.name().startswith("ray::_RayA") or "spawn_main" in " ".join(one.cmdline())]


@pytest.mark.parametrize("engine", WORKERS)
def test_killed_workers_change_nothing(engine, store, done, monkeypatch):
    if ENGINES[engine].package:
        pytest.importorskip(ENGINES[engine].package)
    drawn, kills, kind = random.Random(0), [], load_place(WORKERS[engine])
    real, workers = kind.begin, set()

    def kill(worker):
        # Of a cluster the process may be that of any worker, and its death is noticed a while later: an order that was
        # begun again is left alone, so that one more death is not its third.
        if any(one.order is not None and one.attempt > 1 for one in workers):
            return
        with suppress(psutil.NoSuchProcess):
            for process in processes_of(worker)[:1]:
                process.kill()
                kills.append(worker)

    def begin(self, order, attempt):
        workers.add(self)
        real(self, order, attempt)
        if attempt < ATTEMPTS and len(kills) < 20:
            threading.Timer(drawn.uniform(0, 2), kill, (self,)).start()

    monkeypatch.setattr(kind, "begin", begin)
    study = store.run("transitivity", engine=engine, workers="2")
    assert content(store, study) == content(done, done.studies()[0])
    assert {run.info.status for run in store.runs()} == {"FINISHED"}
    assert len(kills) >= 2
