"""What is in the store already: a sweep asks for what could be its models, and for no more."""

from dataclasses import dataclass, replace

import pytest
from mlflow import MlflowClient

from kdops.data import dataset as datasets
from kdops.data.splits import make_split
from kdops.sweeps import schema
from kdops.sweeps.model import Model
from kdops.tracking.known_models import KnownModels


@dataclass
class Asked:
    record: Model
    fingerprint: str
    training: str


@pytest.fixture
def known():
    digits = datasets.load("digits")
    return KnownModels(digits, make_split(digits, "disjoint", 0))


def asked(run):
    """Return the unit that a run could be the model of."""
    tags = run.data.tags
    return Asked(schema.from_run(run), tags["kdops.fingerprint"], tags["kdops.training"])


def uri_of(run):
    return run.data.tags["kdops.model"]


def test_each_is_found_by_fingerprint_and_by_training(fork, known):
    runs = fork.children()
    found = known.find(map(asked, runs))
    for run in runs:
        record = found[run.data.tags["kdops.fingerprint"]]
        assert record.uri == uri_of(run)
        assert found[run.data.tags["kdops.training"]] == record == known.of_uri(record.uri)


def test_however_many_runs_were_read_before_a_later_sweep_finds_what_came_meanwhile(fork, known):
    """MLflow's parser refuses a filter of some 3,300 ids."""
    run, *_ = fork.children()
    read = known._read.setdefault(known._where(asked(run).record), set())
    read.update(f"{number:032x}" for number in range(4000))
    assert {model.uri for model in known.find([asked(run)]).values()} == {uri_of(run)}
    assert run.info.run_id in read
    assert not list(known._unread(known._where(asked(run).record)))


def test_what_was_not_asked_for_is_not_found(fork, known):
    one, *_ = map(asked, fork.children())
    assert {model.uri for model in known.find([one]).values()} == {one.record.uri}
    assert not known.find([replace(one, fingerprint="other", training="other")])


def test_of_equal_ones_the_latest_is_found(fork, known):
    students = [run for run in fork.children() if run.data.tags["kdops.role"] == "student"]
    second, first = [run for run in students if run.data.params["seed"] == "0"][:2]
    fork.client.set_tag(second.info.run_id, "kdops.training", first.data.tags["kdops.training"])
    assert known.find([asked(first)])[first.data.tags["kdops.training"]].uri == uri_of(second)


def test_what_is_no_longer_registered_is_not_found(fork, known):
    gone, *_ = fork.children()
    fork.client.delete_model_version(*uri_of(gone).removeprefix("models:/").split("/"))
    assert not known.find([asked(gone)])
    assert known.of_uri(uri_of(gone)) is None
    assert uri_of(gone) not in {model.uri for model in known.of_role(gone.data.tags["kdops.role"])}


def test_a_network_whose_path_no_filter_can_say_is_found(fork, known):
    run, *_ = fork.children()
    odd = replace(asked(run).record, params={**run.data.params, "architecture": "it's here.py:net"})
    assert known.find([replace(asked(run), record=odd)])[run.data.tags["kdops.training"]].uri == uri_of(run)


def test_a_role_has_all_its_models_the_latest_first(fork, known):
    runs = [run for run in fork.children() if run.data.tags["kdops.role"] == "student"]
    found = known.of_role("student")
    assert {model.uri for model in found} == {uri_of(run) for run in runs}
    times = [fork.client.get_run(model.run_id).info.start_time for model in found]
    assert times == sorted(times, reverse=True)


def test_models_of_another_split_are_not_found(fork, known):
    other = KnownModels(known.data, make_split(known.data, "disjoint", 1))
    run, *_ = fork.children()
    assert not other.find([asked(run)])
    assert other.of_uri(uri_of(run)) is None
    assert not other.of_role(run.data.tags["kdops.role"])


def test_a_version_belongs_to_the_run_that_it_names(apart):
    """A name that is deleted and made again counts from 1: its version 1 is not the model of before."""
    client, name = apart.client, "kdops-digits-teacher"
    client.delete_registered_model(name)
    apart.run("teacher", seeds=1, seed=5)
    assert client.get_model_version(name, "1").tags["seed"] == "5"
    again = apart.run("students", seeds=1)
    (teacher,) = apart.children(again)
    assert (teacher.data.tags["kdops.model"], teacher.data.params["seed"]) == (f"models:/{name}/2", "0")
    apart.run("students", seeds=1, temperatures="9")
    assert apart.trained()[-1] == ("student", 0, 9)


def test_a_later_sweep_reads_no_run_again_and_finds_what_came_meanwhile(fork, known, monkeypatch):
    students = [run for run in fork.children() if run.data.tags["kdops.role"] == "student"]
    read, search = [], MlflowClient.search_runs

    def counted(*given, **named):
        found = search(*given, **named)
        read.extend(run.info.run_id for run in found)
        return found

    monkeypatch.setattr(MlflowClient, "search_runs", counted)
    known.find([replace(asked(run), fingerprint="other", training="other") for run in students])
    assert {run.info.run_id for run in students} <= set(read)
    read.clear()
    first, second, third = students[:3]
    assert {model.uri for model in known.find([asked(first)]).values()} == {uri_of(first)}
    assert read == [first.info.run_id], "whether it is still there"
    fork.client.delete_run(second.info.run_id)
    assert not known.find([asked(second)])
    fork.client.update_run(third.info.run_id, status="RUNNING")
    assert not known.find([asked(third)])
    fork.client.set_terminated(third.info.run_id, "FINISHED")
    fresh = KnownModels(known.data, known.split)
    fork.client.update_run(first.info.run_id, status="RUNNING")
    assert not fresh.find([asked(first)])
    fork.client.set_terminated(first.info.run_id, "FINISHED")
    assert {model.uri for model in fresh.find([asked(first)]).values()} == {uri_of(first)}
