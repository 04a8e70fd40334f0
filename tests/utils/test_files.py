"""A file is replaced whole or not at all, and anyone may read it who may read others."""

import os
import stat
import subprocess
import sys
import tempfile

import pytest

from kdops.utils.files import remove_abandoned_folders, replace_file, set_usual_mode, temporary_folder


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


def test_a_file_made_private_gets_the_mode_of_any_file(tmp_path):
    (tmp_path / "other").touch()
    private = tmp_path / "private"
    private.touch(0o600)
    set_usual_mode(private)
    assert stat.S_IMODE(private.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["other", "private"]


def test_temporary_folders_of_killed_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = "import os; from kdops.utils.files import temporary_folder as folder\nwith folder(): os._exit(9)"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", killed], env=environment).returncode == 9
    (left,) = tmp_path.iterdir()
    (left / "file").touch()
    (tmp_path / "kdops-of-somebody").mkdir()
    with temporary_folder() as own:
        remove_abandoned_folders()
        assert sorted(tmp_path.iterdir()) == sorted([own, tmp_path / "kdops-of-somebody"])
    assert not own.exists()
