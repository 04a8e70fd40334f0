"""What ``runs`` and ``candidates`` list is what the runs say, though versions are read in their place."""

import pytest

from kdops.reporting.tables import choose, models_csv
from kdops.tracking.catalog import read_catalog
from kdops.tracking.listing import list_registered
from tests.shelves import Shelf, family

LISTED = ("parameters", "flops", "architecture", "registered")
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


def test_other_roles_may_be_left_out(fork):
    listed = list_registered(fork.client, "student")
    assert choose(listed, "student") == choose(list_registered(fork.client), "student")
    assert {model.role for model in listed.registered()} == {"student"}
