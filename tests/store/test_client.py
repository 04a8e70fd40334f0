"""Calls of MLflow that clash with those of others, and lists that it returns page by page."""

import re
import sqlite3
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow.entities import Dataset, DatasetInput
from mlflow.exceptions import MlflowException
from mlflow.store.entities import PagedList

import kdops
from kdops.store.client import BY_NAME, paged, paged_versions, retry_on_conflict

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


@pytest.mark.parametrize("what", ["set_registered_model_alias", "set_registered_model_tag", "set_model_version_tag"])
def test_who_sets_the_same_alias_or_tag_at_the_same_time_sets_it(store, what):
    client = store.client
    client.create_registered_model("pets")
    client.create_model_version("pets", "/models/0", await_creation_for=None)
    together = threading.Barrier(WRITERS)
    place = ["pets", "1"] if what == "set_model_version_tag" else ["pets"]

    def write(_):
        for number in range(ROUNDS):
            together.wait(60)
            retry_on_conflict(getattr(client, what), *place, f"name{number}", "1")

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))


def test_what_studies_share_is_never_set_but_with_another_try():
    called = re.compile(r"\.set_(registered_model|model_version)_\w+\(")
    files = [*Path(kdops.__file__).parent.rglob("*.py")]
    assert files
    assert not [path for path in files if called.search(path.read_text(encoding="utf-8"))]


def test_other_mistakes_are_told_at_once(store):
    calls = []

    def call(name):
        calls.append(name)
        return store.client.get_registered_model(name)

    with pytest.raises(MlflowException, match="not found"):
        retry_on_conflict(call, "nobody")
    assert calls == ["nobody"]


def test_one_page_at_a_time_is_in_memory():
    read = []

    def search(page_token, max_results):
        assert [page() for page in read] == [None] * len(read)
        number = len(read)
        page = PagedList(range(3 * number, 3 * number + 3), "more" if number < 4 else None)
        read.append(weakref.ref(page))
        return page

    assert list(paged(search)) == list(range(15))


def test_all_versions_are_listed_page_by_page_in_the_order_of_the_databases_index(store, monkeypatch):
    monkeypatch.setattr("kdops.store.client.VERSIONS_PAGE", 2)
    for name in ("cats", "ants", "bees"):
        store.client.create_registered_model(name)
        for number in range(3):
            store.client.create_model_version(name, f"/models/{number}", await_creation_for=None)
    # A changed version comes first in MLflow's own order.
    store.client.set_model_version_tag("cats", "1", "a", "b")
    found = [(version.name, int(version.version)) for version in paged_versions(store.client, None)]
    assert found == [(name, number) for name in ("ants", "bees", "cats") for number in (1, 2, 3)]
    with sqlite3.connect(store.database) as database:
        by = ", ".join(BY_NAME).replace("version_number", "version")
        query = f"SELECT * FROM model_versions WHERE workspace = 'default' ORDER BY {by} LIMIT 2 OFFSET 2"
        plan = [row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {query}")]
    database.close()
    assert not any("TEMP B-TREE" in step for step in plan), plan
