"""The cache gives back what was put in, or makes it again: never anything else."""

import json
import logging
import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdops.data import cache
from kdops.data.arrays import Arrays
from kdops.data.cache import SourceFile, cached, signature


def example(seed=0, n=20):
    random = np.random.default_rng(seed)
    return Arrays.of(
        random.integers(0, 256, (n, 3, 4, 4), dtype=np.uint8),
        random.integers(0, 2, n),
        np.arange(n),
        np.arange(n) > n // 2,
        ("a", "b"),
    )


class Builder:
    """Builds the example and counts how often."""

    def __init__(self):
        self.built = 0

    def __call__(self):
        self.built += 1
        return example()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "kdops" / "decoded"


def same(left, right):
    arrays = all(np.array_equal(getattr(left, name), getattr(right, name)) for name in cache.ARRAYS)
    return arrays and left.classes == right.classes and left.digest == right.digest


def test_built_once_and_given_back_memory_mapped(folder):
    build = Builder()
    first, second = cached("x", "k", build), cached("x", "k", build)
    assert build.built == 1
    assert same(first, example())
    assert same(second, example())
    assert isinstance(second.images, np.memmap)
    assert not second.images.flags.writeable
    assert not list(folder.glob("*.tmp"))


def test_another_key_builds_again_and_the_same_content_is_kept_once(folder):
    build = Builder()
    cached("x", "k", build)
    cached("x", "l", build)
    assert build.built == 2
    assert len(list(folder.glob("*.images.npy"))) == 1


@pytest.mark.parametrize("key", ["k", "l"])
def test_what_was_decoded_last_is_read_ahead_and_given_only_where_it_is_meant(folder, key, monkeypatch):
    build = Builder()
    cached("x", "k", build)
    seen = []
    monkeypatch.setattr(cache, "_read", lambda pointer, real=cache._read: seen.append(pointer.name) or real(pointer))
    ahead = cache.ReadAhead("x")
    ahead._thread.join()
    assert same(cached("x", key, build, ahead), example())
    assert build.built == (1 if key == "k" else 2)
    # Once for all where the guess was right.
    assert seen[:1] == ["x-k.json"]
    assert (seen == ["x-k.json"]) is (key == "k")


def test_with_nothing_decoded_yet_nothing_is_read_ahead(folder):
    build = Builder()
    for _ in range(2):
        assert same(cached("x", "k", build, cache.ReadAhead("x")), example())
    assert build.built == 1


def test_a_folder_that_cannot_be_is_no_reason_to_fail(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ("x" * 300)))
    assert same(cached("x", "k", Builder(), cache.ReadAhead("x")), example())


def test_what_is_damaged_and_read_ahead_is_made_again(folder, caplog):
    build = Builder()
    cached("x", "k", build)
    flip(next(folder.glob("*.images.npy")))
    assert same(cached("x", "k", build, cache.ReadAhead("x")), example())
    assert build.built == 2
    assert "damaged" in caplog.text


def truncate(path):
    os.truncate(path, path.stat().st_size - 1)


def empty(path):
    path.write_bytes(b"")


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"\0")


def delete(path):
    path.unlink()


@pytest.mark.parametrize("damage", [truncate, empty, flip, lengthen, delete])
@pytest.mark.parametrize("array", cache.ARRAYS)
def test_a_damaged_array_is_made_again_with_a_warning(folder, damage, array, caplog):
    build = Builder()
    cached("x", "k", build)
    damage(next(folder.glob(f"*.{array}.npy")))
    assert same(cached("x", "k", build), example())
    assert build.built == 2
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "\n" not in caplog.text.strip()
    cached("x", "k", build)
    assert build.built == 2


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", "null", '{"digest": "../../x", "classes": []}', '{"digest": 3}', "\0"]
)
def test_a_damaged_pointer_is_made_again(folder, content):
    build = Builder()
    cached("x", "k", build)
    (folder / "x-k.json").write_text(content)
    assert same(cached("x", "k", build), example())
    assert build.built == 2


def test_other_class_names_in_the_pointer_are_noticed(folder):
    cached("x", "k", Builder())
    pointer = folder / "x-k.json"
    pointer.write_text(json.dumps({**json.loads(pointer.read_text()), "classes": ["b", "a"]}))
    assert cached("x", "k", Builder()).classes == ("a", "b")


def test_pickled_arrays_are_refused(folder):
    cached("x", "k", Builder())
    np.save(next(folder.glob("*.labels.npy")), np.array([{}], dtype=object), allow_pickle=True)
    assert same(cached("x", "k", Builder()), example())


def run(folder, script):
    """Start a process that uses the same cache."""
    prelude = "import os, sys, time, numpy as np\nfrom kdops.data import cache\nfrom kdops.data.arrays import Arrays\n"
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder.parent.parent)}
    return subprocess.Popen([sys.executable, "-c", prelude + textwrap.dedent(script)], env=environment)


def test_two_processes_at_once_build_once(folder, tmp_path):
    log = tmp_path / "built"
    script = f"""
        def build():
            open({str(log)!r}, "a").write("built ")
            time.sleep(0.5)
            n = np.arange(9)
            return Arrays.of(np.full((9, 1, 2, 2), 7, np.uint8), n % 2, n, n > 4, ("a", "b"))
        assert cache.cached("x", "k", build).images.sum() == 7 * 36
    """
    processes = [run(folder, script) for _ in range(3)]
    assert [process.wait(200) for process in processes] == [0, 0, 0]
    assert log.read_text() == "built "


def test_a_process_killed_while_it_writes_leaves_nothing_half_written(folder):
    script = """
        def half(file, array, allow_pickle):
            file.write(b"half")
            file.flush()
            os._exit(9)
        n = np.arange(9)
        np.save = half
        cache.cached("x", "k", lambda: Arrays.of(np.zeros((9, 1, 2, 2), np.uint8), n, n, n > 4, "abcdefghi"))
    """
    assert run(folder, script).wait(200) == 9
    assert len(list(folder.glob("*.tmp"))) == 1
    assert same(cached("x", "k", Builder()), example())
    assert not list(folder.glob("*.tmp"))


def test_a_full_disk_costs_the_cache_but_not_the_study(folder, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    assert same(cached("x", "k", Builder()), example())
    assert "No space left" in caplog.text
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_a_cache_folder_that_cannot_be_made_costs_only_the_cache(tmp_path, monkeypatch, caplog):
    (tmp_path / "kdops").write_text("a file in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert same(cached("x", "k", Builder()), example())
    assert "not kept" in caplog.text


def test_a_relative_cache_home_is_ignored(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert cache.user_cache_folder().is_absolute()


@given(st.data())
def test_the_digest_sees_every_change(data):
    one = example()
    name = data.draw(st.sampled_from(sorted(cache.ARRAYS)))
    arrays = {array: getattr(one, array).copy() for array in cache.ARRAYS}
    flat = arrays[name].reshape(-1)
    position = data.draw(st.integers(0, len(flat) - 1))
    flat[position] = not flat[position] if name == "test" else flat[position] ^ 1
    assert Arrays.of(**arrays, classes=one.classes).digest != one.digest


def test_the_digest_sees_shape_classes_and_order_but_not_the_memory_layout():
    one = example()
    arrays = {name: getattr(one, name) for name in cache.ARRAYS}
    assert Arrays.of(**arrays, classes=("a", "c")).digest != one.digest
    assert Arrays.of(**{**arrays, "images": one.images[::-1]}, classes=one.classes).digest != one.digest
    other = one.images.reshape(20, 1, 12, 4)
    assert Arrays.of(**{**arrays, "images": other}, classes=one.classes).digest != one.digest
    turned = np.asfortranarray(one.images)
    assert Arrays.of(**{**arrays, "images": turned}, classes=one.classes).digest == one.digest
    with pytest.raises(ValueError, match="labels"):
        Arrays.of(**{**arrays, "labels": one.labels.astype(np.int32)}, classes=one.classes)


FILE = SourceFile("a", 1, 2, 3)


@pytest.mark.parametrize("changed", [{"path": "b"}, {"size": 2}, {"inode": 3}, {"changed": 4}])
def test_the_signature_sees_path_size_inode_and_time(tmp_path, changed):
    other = FILE._replace(**changed)
    assert signature(tmp_path, [FILE]) == signature(tmp_path, [FILE])
    assert signature(tmp_path, [FILE]) != signature(tmp_path, [other])
    assert signature(tmp_path, [FILE]) != signature(tmp_path, [FILE, other])
    assert signature(tmp_path, [FILE]) != signature(tmp_path, [FILE], "gray")


@pytest.mark.parametrize(
    ("kind", "is_read"),
    [("ext4", False), ("nfs4", False), ("squashfs", True), ("vfat", True), ("fuse.sshfs", True), ("fuseblk", True)],
)
def test_files_are_read_where_the_time_of_a_change_can_be_set(tmp_path, monkeypatch, kind, is_read):
    """An image of a file system that was made anew has the numbers and times of the one before it."""
    (tmp_path / "a").write_bytes(b"one")
    status = (tmp_path / "a").stat()
    own = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    mounts = (
        f"35 1 254:99 / / rw - {'ext4' if is_read else 'squashfs'} /dev/x rw",
        f"36 35 {own} /b /a rw shared:1 - {kind} none rw",
    )
    (tmp_path / "mounts").write_text("\n".join(mounts))
    monkeypatch.setattr(cache, "MOUNTS", tmp_path / "mounts")
    cache._keeps_changes.cache_clear()
    try:
        file = SourceFile.of("a", status)
    finally:
        cache._keeps_changes.cache_clear()
    monkeypatch.setattr(cache, "SETTLED", -(10**10))
    before = signature(tmp_path, [file])
    (tmp_path / "a").write_bytes(b"two")
    assert (signature(tmp_path, [file]) != before) is is_read


@pytest.mark.parametrize("untold", [{"inode": 0}, {"changed": time.time_ns() + 10**15}])
def test_a_file_whose_time_says_nothing_is_read(tmp_path, untold):
    """A file system may have no inodes, and two changes may have one time."""
    file, path = FILE._replace(**untold), tmp_path / "a"
    path.write_bytes(b"one")
    before = signature(tmp_path, [file])
    path.write_bytes(b"two")
    assert signature(tmp_path, [file]) != before
    path.write_bytes(b"one")
    assert signature(tmp_path, [file]) == before
    path.unlink()
    assert signature(tmp_path, [file]) != before
