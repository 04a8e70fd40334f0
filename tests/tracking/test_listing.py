"""What ``runs`` and ``candidates`` list is what the runs say, though versions are read in their place."""

import pytest
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from kdops.reporting.tables import choose, models_csv
from kdops.tracking.listing import list_registered
from tests.shelves import Shelf, family, read_catalog

LISTED = ("parameters", "flops", "architecture", "registered", "select_on")
"""What ``candidates`` shows beside the columns of ``runs``."""


def assert_same(client):
    listed, read = choose(list_registered(client)), choose(read_catalog(client))
    assert listed
    assert models_csv(listed) == models_csv(read)
    for own, other in zip(listed, read, strict=True):
        assert {name: getattr(own, name) for name in LISTED} == {name: getattr(other, name) for name in LISTED}
        assert {part: own.images.get(part) for part in ("val", "test")} == {
            part: other.images.get(part) for part in ("val", "test")
        }
    return listed


def test_models_of_a_whole_paper(whole):
    assert {"ensemble", "middle"} <= {model.role for model in assert_same(whole.client)}


def test_versions_that_say_too_little(empty_database, tmp_path):
    shelf = Shelf(tmp_path).open(empty_database)
    family(shelf)
    assert_same(shelf.client)


@pytest.mark.parametrize("which", [0, 1])
def test_runs_that_were_deleted_or_did_not_finish_and_versions_that_are_gone(fork, which):
    students = [run for run in fork.children() if run.data.tags["kdops.role"] == "student"]
    fork.client.delete_run(students[which].info.run_id)
    fork.client.set_terminated(students[which + 2].info.run_id, "FAILED")
    fork.client.set_terminated(students[which + 4].info.run_id, "RUNNING")
    fork.client.delete_model_version(*students[which + 6].data.tags["kdops.model"][8:].split("/"))
    listed = assert_same(fork.client)
    assert len(listed) == len(fork.children()) + 1 - 4, "a deleted run is no child"


def purge(store, run_id):
    """Delete a run for good, as ``mlflow gc`` does."""
    store.client.delete_run(run_id)
    tracking = SqlAlchemyStore(store.uri, str(store.folder / "mlruns"))
    tracking._hard_delete_run(run_id)


@pytest.mark.parametrize("which", [0, -1])
def test_runs_that_are_gone_for_good(fork, which):
    students = [run for run in fork.children() if run.data.tags["kdops.role"] == "student"]
    gone = students[which]
    purge(fork, gone.info.run_id)
    assert gone.data.tags["kdops.model"] not in {model.uri for model in assert_same(fork.client)}


def test_copies_of_versions(fork):
    """Under the same name or another, made from the first version of a group or not."""
    before = {model.uri for model in assert_same(fork.client)}
    for source in ("student/1", "student/3", "middle/2"):
        for name in ("kdops-digits-student", "kdops-digits-copy"):
            fork.client.copy_model_version(f"models:/kdops-digits-{source}", name)
    assert {model.uri for model in assert_same(fork.client)} == before


def test_copies_of_versions_that_say_too_little(empty_database, tmp_path):
    shelf = Shelf(tmp_path).open(empty_database)
    uris = family(shelf)
    for name in ("kdops-digits-ensemble", "kdops-digits-a", "kdops-digits-z"):
        shelf.client.copy_model_version(uris["ensemble"], name)
    assert uris["ensemble"] in {model.uri for model in assert_same(shelf.client)}


def test_what_was_chosen_on_test_says_so_whatever_is_like_it(fork):
    students = [run for run in fork.children() if run.data.tags["kdops.role"] == "student"]
    for run in students[::2]:
        fork.client.set_tag(run.info.run_id, "kdops.select_on", "test")
        name, number = run.data.tags["kdops.model"].removeprefix("models:/").split("/")
        fork.client.set_model_version_tag(name, number, "select_on", "test")
    listed = assert_same(fork.client)
    marked = {model.run_id for model in listed if model.select_on == "test"}
    assert marked == {run.info.run_id for run in students[::2]}
    assert len(marked) < len(students)


@pytest.mark.parametrize(("tag", "text"), [("temperature", "x"), ("seed", "\N{SUPERSCRIPT TWO}"), ("seed", "1" * 4999)])
def test_a_version_whose_tags_cannot_be_read_is_what_its_run_says(fork, tag, text):
    for run in fork.children()[::2]:
        name, number = run.data.tags["kdops.model"].removeprefix("models:/").split("/")
        fork.client.set_model_version_tag(name, number, tag, text)
    assert_same(fork.client)


def test_other_roles_may_be_left_out(fork):
    listed = list_registered(fork.client, "student")
    assert choose(listed, "student") == choose(list_registered(fork.client), "student")
    assert {model.role for model in listed.registered()} == {"student"}
