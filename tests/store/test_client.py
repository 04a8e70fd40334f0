"""Calls of MLflow that clash with those of others."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from mlflow.entities import Dataset, DatasetInput
from mlflow.exceptions import MlflowException

from kdops.store.client import retry_on_conflict

WRITERS, ROUNDS = 6, 8


def test_who_names_the_same_new_data_at_the_same_time_loses_nothing(store):
    client = store.client
    runs = [client.create_run("0").info.run_id for _ in range(WRITERS)]
    together = threading.Barrier(WRITERS)

    def write(run):
        for number in range(ROUNDS):
            together.wait(60)
            data = Dataset(name="pets", digest=str(number), source_type="kdops", source="{}")
            retry_on_conflict(client.log_inputs, run, datasets=[DatasetInput(data)])

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, runs))
    for run in runs:
        digests = [one.dataset.digest for one in client.get_run(run).inputs.dataset_inputs]
        assert sorted(digests) == [str(number) for number in range(ROUNDS)]


def test_who_registers_at_the_same_time_gets_a_version_each(store):
    client = store.client
    client.create_registered_model("pets")
    together = threading.Barrier(WRITERS)

    def write(number):
        found = []
        for _ in range(ROUNDS):
            together.wait(60)
            found.append(
                retry_on_conflict(client.create_model_version, "pets", f"/models/{number}", await_creation_for=None)
            )
        return [int(version.version) for version in found]

    with ThreadPoolExecutor(WRITERS) as pool:
        versions = [version for found in pool.map(write, range(WRITERS)) for version in found]
    assert sorted(versions) == list(range(1, WRITERS * ROUNDS + 1))


def test_other_mistakes_are_told_at_once(store):
    calls = []

    def call(name):
        calls.append(name)
        return store.client.get_registered_model(name)

    with pytest.raises(MlflowException, match="not found"):
        retry_on_conflict(call, "nobody")
    assert calls == ["nobody"]
