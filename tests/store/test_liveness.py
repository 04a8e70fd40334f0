"""Heartbeats: who tells of its life, and whose runs are ended by others."""

import logging
import threading
import time
from dataclasses import replace

import pytest
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from kdops.data import dataset as datasets
from kdops.data.splits import make_split
from kdops.registry.versions import Registry
from kdops.store.liveness import EXPIRED_SECONDS, Heartbeat, beat, expired
from kdops.sweeps import schema
from kdops.tracking.stale_runs import end_stale_runs
from kdops.utils.process import ProcessId

DIGITS = datasets.load("digits")

ELSEWHERE = str(ProcessId("another-host", 1, 1, 1))


def ago(seconds):
    return str(int(time.time() - seconds))


@pytest.mark.parametrize(
    ("age", "answer"),
    [
        (0, False),
        (EXPIRED_SECONDS - 30, False),
        (EXPIRED_SECONDS + 30, True),
        (-300, False),  # a clock that is ahead
    ],
)
def test_a_heartbeat_expires(age, answer):
    assert expired({schema.HEARTBEAT: ago(age)}) is answer


@pytest.mark.parametrize("text", ["", "soon", "-5", "1.5"])
def test_what_is_no_heartbeat_says_nothing(text):
    assert expired({schema.HEARTBEAT: text}) is None
    assert expired({}) is None


def test_a_heartbeat_is_renewed_until_it_is_stopped(store):
    run = store.client.create_run("0", tags={schema.HEARTBEAT: "1"}).info.run_id
    heart = Heartbeat(run, seconds=0.05)
    _wait_for(lambda: expired(store.client.get_run(run).data.tags) is False)
    heart.stop()
    _wait_for(lambda: "heartbeat" not in {thread.name for thread in threading.enumerate()})
    store.client.set_tag(run, schema.HEARTBEAT, "1")
    time.sleep(0.2)
    assert store.client.get_run(run).data.tags[schema.HEARTBEAT] == "1"


def test_a_store_that_is_away_stops_no_heart(store, caplog):
    run = store.client.create_run("0").info.run_id
    store.client.delete_run(run)  # MLflow refuses tags on deleted runs
    with caplog.at_level(logging.INFO, "kdops"):
        heart = Heartbeat(run, seconds=0.05)
        time.sleep(0.3)
        store.client.restore_run(run)
        _wait_for(lambda: schema.HEARTBEAT in store.client.get_run(run).data.tags)
    heart.stop()
    assert not caplog.records


def test_every_study_has_a_heartbeat_and_stops_it(store):
    parent = store.run("teacher", seeds=1)
    assert expired(parent.data.tags) is False
    assert not [thread for thread in threading.enumerate() if thread.name == "heartbeat" and _is_of(thread, parent)]


def _is_of(thread, parent):
    return thread._target.__self__.run_id == parent.info.run_id and not thread._target.__self__._stopped.is_set()


@pytest.mark.parametrize(("age", "status"), [(3600, "KILLED"), (60, "RUNNING"), (None, "RUNNING")])
def test_a_study_of_another_host_is_ended_once_its_heart_stopped(store, age, status):
    client = store.client
    store.run("teacher", seeds=1)
    experiment = client.get_experiment_by_name("kdops").experiment_id
    tags = {"kdops.process": ELSEWHERE, **({schema.HEARTBEAT: ago(age)} if age else {})}
    study = client.create_run(experiment, tags={**tags, "kdops.study": "paper"}).info.run_id
    below = {"kdops.process": ELSEWHERE, "mlflow.parentRunId": study}
    part = client.create_run(experiment, tags=below).info.run_id
    model = client.create_run(experiment, tags={**below, "mlflow.parentRunId": part}).info.run_id
    trial = client.create_run(experiment, tags={**below, "kdops.trial": "3"}).info.run_id
    store.run("teacher", seeds=1)
    assert [client.get_run(run).info.status for run in (study, part, model, trial)] == [status] * 4


def test_on_this_host_the_process_decides_and_not_its_heartbeat(store):
    client = store.client
    store.run("teacher", seeds=1)
    experiment = client.get_experiment_by_name("kdops").experiment_id
    own = ProcessId.own()
    # This one was stopped for an hour, or its laptop slept; the other one was killed a second ago.
    asleep = client.create_run(experiment, tags={"kdops.process": str(own), schema.HEARTBEAT: ago(3600)}).info.run_id
    gone = str(replace(own, start=own.start - 10**6))
    killed = client.create_run(experiment, tags={"kdops.process": gone, schema.HEARTBEAT: beat()}).info.run_id
    store.run("teacher", seeds=1)
    assert [client.get_run(run).info.status for run in (asleep, killed)] == ["RUNNING", "KILLED"]


@pytest.mark.timeout(100)
def test_a_run_that_is_said_to_be_its_own_parent_keeps_nobody_waiting(store):
    """Of a study on another host its heartbeat is looked for, run by run."""
    client = store.client
    experiment = store.run("teacher", seeds=1).info.experiment_id
    elsewhere = str(replace(ProcessId.own(), host="elsewhere"))
    ring = [client.create_run(experiment, tags={"kdops.process": elsewhere}).info.run_id for _ in range(2)]
    for run, parent in zip(ring, reversed(ring), strict=True):
        client.set_tag(run, schema.PARENT, parent)
    _end_stale_runs(client)
    assert [client.get_run(run).info.status for run in ring] == ["RUNNING", "RUNNING"]


def test_what_a_stale_run_made_is_withdrawn_and_its_champion_has_a_successor(store):
    client = store.client
    store.run("teacher", seeds=2)
    name = "kdops-digits-teacher"
    champion = client.get_model_version_by_alias(name, "champion")
    # As if its process had been killed before it could end the run, and another study had chosen it meanwhile.
    gone = replace(ProcessId.own(), boot=ProcessId.own().boot - 3600)
    client.set_tag(champion.run_id, "kdops.process", str(gone))
    client.update_run(champion.run_id, status="RUNNING")
    experiment = client.get_experiment_by_name("kdops").experiment_id
    _end_stale_runs(client)
    assert client.get_run(champion.run_id).info.status == "KILLED"
    versions = {v.version: v for v in client.search_model_versions(f"name = '{name}'")}
    assert champion.version not in versions
    assert client.get_registered_model(name).aliases == {"champion": next(iter(versions))}
    (model,) = client.search_logged_models([experiment])
    assert (model.status, model.source_run_id != champion.run_id) == (LoggedModelStatus.READY, True)


def test_a_study_that_ends_while_its_runs_are_looked_at_keeps_what_it_made(store, monkeypatch):
    client = store.client
    store.run("teacher", seeds=1)
    champion = client.get_model_version_by_alias("kdops-digits-teacher", "champion")
    gone = str(replace(ProcessId.own(), start=1))
    client.set_tag(champion.run_id, "kdops.process", gone)
    client.update_run(champion.run_id, status="RUNNING")
    real = ProcessId.is_dead

    def ends_now(self, text):
        client.set_terminated(champion.run_id, "FINISHED")
        return real(self, text)

    monkeypatch.setattr(ProcessId, "is_dead", ends_now)
    _end_stale_runs(client)
    assert client.get_run(champion.run_id).info.status == "FINISHED"
    assert client.get_model_version_by_alias("kdops-digits-teacher", "champion").version == champion.version


def test_what_cannot_be_ended_keeps_nobody_from_starting(store, monkeypatch, caplog):
    client = store.client
    store.run("teacher", seeds=1)
    experiment = client.get_experiment_by_name("kdops").experiment_id
    gone = str(replace(ProcessId.own(), start=1))
    left = [client.create_run(experiment, tags={"kdops.process": gone}).info.run_id for _ in range(2)]
    real = Registry.delete_versions_of

    def refused(self, run_id):
        if run_id == left[0]:
            raise MlflowException("no permission to delete", error_code=PERMISSION_DENIED)
        real(self, run_id)

    monkeypatch.setattr(Registry, "delete_versions_of", refused)
    with caplog.at_level(logging.WARNING, "kdops"):
        _end_stale_runs(client)
    assert [client.get_run(run).info.status for run in left] == ["RUNNING", "KILLED"]
    assert left[0] in caplog.text


def _end_stale_runs(client):
    experiment = client.get_experiment_by_name("kdops").experiment_id
    end_stale_runs(client, Registry(client, DIGITS, make_split(DIGITS, "disjoint", 0)), experiment)


def _wait_for(question, seconds=200.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if question():
            return
        time.sleep(0.05)
    raise AssertionError("waited too long")
