"""What is in the store already: found once, and after that the recent models alone are asked for."""

import time

import pytest

from kdops.data import dataset as datasets
from kdops.data.splits import make_split
from kdops.tracking.known_models import STORED_WITHIN, KnownModels

CHAIN = "teacher>student"


@pytest.fixture
def known():
    digits = datasets.load("digits")
    return KnownModels(digits, make_split(digits, "disjoint", 0))


def age(fork, run, seconds):
    """Let a run have ended so long ago."""
    fork.client.set_terminated(run.info.run_id, "FINISHED", int(1000 * (time.time() - seconds)))


def uris_of(found):
    return {key for key in found if key.startswith("models:/")}


def test_all_are_found_whatever_their_age(fork, known):
    runs = fork.children()
    age(fork, runs[0], 10 * STORED_WITHIN)
    assert uris_of(known.look()) == {run.data.tags["kdops.model"] for run in runs}
    for run in runs:
        record = known.records[run.data.tags["kdops.fingerprint"]]
        assert record.uri == run.data.tags["kdops.model"]
        assert known.records[run.data.tags["kdops.training"]] == known.records[record.uri] == record


def test_later_the_recent_ones_alone_are_asked_for_and_none_is_forgotten(fork, known):
    runs = fork.children()
    for run in runs[1:]:
        age(fork, run, 2 * STORED_WITHIN)
    first = known.look()
    assert uris_of(known.look()) == {runs[0].data.tags["kdops.model"]}
    assert known.records == first
    age(fork, runs[1], STORED_WITHIN / 2)
    assert uris_of(known.look()) == {run.data.tags["kdops.model"] for run in runs[:2]}


def test_what_came_another_way_is_still_to_be_looked_for(fork, known):
    runs = fork.children()
    for run in runs:
        age(fork, run, 2 * STORED_WITHIN)
    students = {run.data.tags["kdops.model"] for run in runs if run.data.tags["kdops.chain"] == CHAIN}
    assert uris_of(known.look(CHAIN)) == students
    assert uris_of(known.look(CHAIN)) == set()
    assert uris_of(known.look()) == {run.data.tags["kdops.model"] for run in runs}
    assert uris_of(known.look(CHAIN)) == set()


def test_what_is_no_longer_registered_is_not_found_and_what_is_known_is_not_asked_for_again(fork, known, monkeypatch):
    gone, *_ = fork.children()
    fork.client.delete_model_version(*gone.data.tags["kdops.model"].removeprefix("models:/").split("/"))
    first = known.look()
    assert gone.data.tags["kdops.model"] not in first
    asked = []
    monkeypatch.setattr("kdops.registry.versions.Registry.made", lambda registry: asked.append(registry) or set())
    assert known.look() == first
    # The one that is gone may have come back.
    assert len(asked) == 1
    age(fork, gone, 2 * STORED_WITHIN)
    known.look()
    assert len(asked) == 1


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
