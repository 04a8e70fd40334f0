"""A file is replaced whole or not at all, and anyone may read it who may read others."""

import os
import stat

import pytest

from kdops.utils.files import replace_file


@pytest.mark.parametrize("before", [None, "old"])
def test_a_file_is_replaced_where_the_block_ends(before, tmp_path):
    path = tmp_path / "file.txt"
    if before is not None:
        path.write_text(before)
    with replace_file(path) as made:
        made.write_text("new")
        assert made.parent == tmp_path
        assert (path.read_text() if path.exists() else None) == before
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_where_the_block_fails_nothing_changes(error, tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail():
        with replace_file(path) as made:
            made.write_text("new")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file.txt"]


def test_its_mode_is_that_of_any_file(tmp_path):
    (tmp_path / "other").touch()
    with replace_file(tmp_path / "file", ".pt2") as made:
        assert made.suffix == ".pt2"
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1
