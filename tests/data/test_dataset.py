"""Loading: what is on disk arrives unchanged, and what is wrong with it is said in one line."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdops.data import dataset as data
from kdops.data import gtsrb
from kdops.errors import KdopsError, UsageError

REAL = Path(os.environ.get("KDOPS_DATA_ROOT") or "/nonexistent").expanduser()
real_gtsrb = pytest.mark.skipif(not (REAL / "gtsrb").is_dir(), reason="GTSRB is not in KDOPS_DATA_ROOT")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KDOPS_DATA_ROOT", raising=False)


@pytest.fixture
def root(tmp_path):
    """A copy with 3 classes of 2 tracks of 2 frames, 4 test images, and sizes from 15 to 40 pixels."""
    random = np.random.default_rng(0)

    def write(path):
        width, height = (32, 32) if random.random() < 0.5 else random.integers(15, 41, 2)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)

    base = tmp_path / "copy" / "gtsrb"
    for label in range(3):
        for track in range(2):
            for frame in range(2):
                write(base / f"GTSRB/Training/{label:05d}/{track:05d}_{frame:05d}.ppm")
        (base / f"GTSRB/Training/{label:05d}/GT-{label:05d}.csv").write_text("not an image")
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for image, label in enumerate([2, 0, 1, 1]):
        write(base / f"GTSRB/Final_Test/Images/{image:05d}.ppm")
        rows.append(f"{image:05d}.ppm;53;54;6;5;48;49;{label}")
    (base / "GT-final_test.csv").write_text("\n".join(rows) + "\n")
    return base.parent


def refused(parameter, load, *arguments):
    """Return the text of the one-line refusal."""
    with pytest.raises(UsageError) as caught:
        load(*arguments)
    assert caught.value.parameter == parameter
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_digits():
    digits = data.load("digits")
    assert digits.images.shape == (1797, 1, 8, 8)
    assert digits.shape == (1, 8, 8)
    assert not digits.has_tracks
    assert len(digits.classes) == 10
    from sklearn.datasets import load_digits

    raw = load_digits()
    assert [round(v * 255 / 16) for v in range(17)] == sorted(set(digits.images.ravel().tolist()))
    np.testing.assert_array_equal(np.round(digits.images[:, 0] * (16 / 255)), raw.images)
    np.testing.assert_array_equal(digits.labels, raw.target)


def test_digits_hold_out_is_fixed_and_stratified():
    digits = data.load("digits")
    share = np.bincount(digits.labels[digits.test]) / np.bincount(digits.labels)
    assert np.all(abs(share - 0.2) < 0.005)
    assert digits.digest == data.load("digits").digest
    assert np.flatnonzero(digits.test)[:5].tolist() == [22, 26, 28, 32, 34]
    assert "hold-out" in digits.notes


def test_gtsrb_is_what_torchvision_reads(root):
    from torchvision.datasets import GTSRB

    found = data.load("gtsrb", str(root))
    resize = lambda image: np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR)).transpose(2, 0, 1)  # noqa: E731
    expected = [pair for split in ("train", "test") for pair in GTSRB(root, split, transform=resize)]
    np.testing.assert_array_equal(found.images, [image for image, _ in expected])
    assert found.labels.tolist() == [label for _, label in expected]
    assert found.tracks.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, -1, -1, -1, -1]
    assert found.test.tolist() == [False] * 12 + [True] * 4
    assert found.classes == ("speed limit 20", "speed limit 30", "speed limit 50")
    assert found.has_tracks
    assert "12 training images" in found.notes


def test_there_are_43_distinct_class_names():
    assert len(set(gtsrb.CLASSES)) == 43


def test_progress_and_the_cache(root, monkeypatch):
    monkeypatch.setattr(gtsrb, "PROGRESS_EVERY", 5)
    calls = []
    first = data.load("gtsrb", str(root), lambda *call: calls.append(call))
    assert calls == [(0, 16), (5, 16), (10, 16), (15, 16), (16, 16)]
    assert data.load("gtsrb", str(root), lambda *call: calls.append(call)).digest == first.digest
    assert len(calls) == 5


def test_a_changed_image_is_decoded_again(root):
    before = data.load("gtsrb", str(root))
    path = root / "gtsrb/GTSRB/Training/00000/00000_00000.ppm"
    Image.new("RGB", (20, 20), (1, 2, 3)).save(path)
    after = data.load("gtsrb", str(root))
    assert after.digest != before.digest
    assert np.all(after.images[0, :, 0, 0] == [1, 2, 3])


def test_the_digest_does_not_depend_on_where_the_copy_lies(root, tmp_path):
    before = data.load("gtsrb", str(root)).digest
    (root / "gtsrb").rename(tmp_path / "gtsrb")
    assert data.load("gtsrb", str(tmp_path)).digest == before


def test_the_environment_names_the_folder_and_the_parameter_wins(root, tmp_path, monkeypatch):
    monkeypatch.setenv("KDOPS_DATA_ROOT", str(root))
    assert len(data.load("gtsrb").labels) == 16
    refused("data_root", data.load, "gtsrb", str(tmp_path / "none"))


def with_comments(path):
    path.write_bytes(b"P6\n# width and height\n32 # here\n32\n255\n" + bytes(range(256)) * 12)


def sixteen_bits(path):
    path.write_bytes(b"P6 2 2 65535\n" + bytes(24))


def a_png(path):
    Image.new("L", (9, 9), 7).save(path, format="png")


@pytest.mark.parametrize("write", [with_comments, sixteen_bits, a_png])
def test_unusual_images_are_read_as_pillow_reads_them(root, write):
    path = root / "gtsrb/GTSRB/Training/00001/00001_00001.ppm"
    write(path)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR))
    found = data.load("gtsrb", str(root))
    np.testing.assert_array_equal(found.images[7].transpose(1, 2, 0), expected)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"P6 32 32 255\n" + bytes(3071),
        b"P6 40 40 255\n" + bytes(99),
        b"P6 0 0 255\n",
        b"P6 32",
        b"P6 900000 900000 255\n",
        b"P6 20000 20000 65535\n",
        b"P6 4097 4096 255\n",
        b"no image\nat all",
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_truncated_or_giant_image_is_named(root, content):
    path = root / "gtsrb/GTSRB/Training/00002/00001_00001.ppm"
    path.write_bytes(content)
    assert str(path) in refused("data_root", data.load, "gtsrb", str(root))


def test_a_folder_in_place_of_an_image_is_named(root):
    path = root / "gtsrb/GTSRB/Final_Test/Images/00001.ppm"
    path.unlink()
    path.mkdir()
    assert str(path) in refused("data_root", data.load, "gtsrb", str(root))


def test_a_class_folder_without_images_is_named(root):
    folder = root / "gtsrb/GTSRB/Training/00001"
    for image in folder.glob("*.ppm"):
        image.unlink()
    assert str(folder) in refused("data_root", data.load, "gtsrb", str(root))


def test_a_missing_class_folder_does_not_shift_the_labels(root):
    (root / "gtsrb/GTSRB/Training/00001").rename(root / "elsewhere")
    assert "00000 to 00042" in refused("data_root", data.load, "gtsrb", str(root))


def test_a_class_known_only_to_the_test_set_is_refused(root):
    (root / "gtsrb/GTSRB/Training/00002").rename(root / "elsewhere")
    assert "00000.ppm is of class 2" in refused("data_root", data.load, "gtsrb", str(root))


def test_an_image_without_a_track_is_named(root):
    path = root / "gtsrb/GTSRB/Training/00001/00001_00001.ppm"
    path.rename(path.with_name("sign.ppm"))
    assert "sign.ppm" in refused("data_root", data.load, "gtsrb", str(root))


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("", "test images"),
        ("Filename;ClassId\n00000.ppm;2\n", "3 such"),
        ("Filename;ClassId\n00000.ppm;two\n", "ClassId"),
        ("Name;Class\n00000.ppm;2\n", "Filename"),
        ("Filename;ClassId\n00000.ppm\n", "ClassId"),
        ("\xff\xfe", "Filename"),
    ],
)
def test_a_damaged_test_table_is_refused(root, content, hint):
    (root / "gtsrb/GT-final_test.csv").write_bytes(content.encode("latin-1"))
    assert hint in refused("data_root", data.load, "gtsrb", str(root))


def test_a_missing_test_table_is_named(root):
    (root / "gtsrb/GT-final_test.csv").unlink()
    assert "GT-final_test.csv" in refused("data_root", data.load, "gtsrb", str(root))


def test_an_incomplete_copy_is_not_downloaded_over(root):
    (root / "gtsrb/GTSRB/Final_Test").rename(root / "elsewhere")
    assert "Final_Test" in refused("data_root", data.load, "gtsrb", str(root))


def test_one_folder_too_deep(root):
    assert f"above it: {root}" in refused("data_root", data.load, "gtsrb", str(root / "gtsrb"))


@pytest.mark.parametrize("name", ["digits", "gtsrb"])
def test_a_data_root_that_cannot_be_used(name, tmp_path):
    (tmp_path / "file").write_text("")
    assert "file" in refused("data_root", data.load, name, str(tmp_path / "file"))
    assert "no such folder" in refused("data_root", data.load, name, str(tmp_path / "none"))
    assert "no such folder" in refused("data_root", data.load, name, "nul\0byte")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder(root):
    for folder in (root / "gtsrb/GTSRB/Training/00001", root):
        folder.chmod(0)
        try:
            assert str(folder) in refused("data_root", data.load, "gtsrb", str(root))
        finally:
            folder.chmod(0o755)


@pytest.mark.parametrize("below", ["", "gtsrb/GTSRB/Training", "gtsrb/GTSRB/Training/00001"])
def test_an_unreadable_folder_simulated(root, below, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if Path(path) == root / below:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    text = refused("data_root", data.load, "gtsrb", str(root))
    assert f"data_root={root / below}: cannot be read (Permission denied)" in text


@pytest.mark.parametrize("name", ["mnist", "", "Digits", "../digits"])
def test_an_unknown_name_lists_the_known_ones(name):
    assert "digits, gtsrb" in refused("dataset", data.load, name)


def test_a_download_that_fails_says_both_ways_out(tmp_path, monkeypatch):
    import torchvision.datasets

    def fail(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(torchvision.datasets, "GTSRB", fail)
    with pytest.raises(KdopsError) as caught:
        data.load("gtsrb")
    text = str(caught.value)
    assert caught.value.exit_code == 1
    assert "\n" not in text
    assert all(word in text for word in ("no route to host", "data_root", "dataset=digits"))
    assert [path.name for path in (tmp_path / "cache/kdops").iterdir()] == [".gtsrb.lock"]


def test_a_download_appears_whole(root, tmp_path, monkeypatch):
    import torchvision.datasets

    def fetch(folder, split, download):
        assert download
        assert not (tmp_path / "new/gtsrb").exists()
        if split == "test":
            (root / "gtsrb").rename(Path(folder, "gtsrb"))
            Path(folder, "gtsrb", "archive.zip").write_text("")

    (tmp_path / "new").mkdir()
    monkeypatch.setattr(torchvision.datasets, "GTSRB", fetch)
    assert len(data.load("gtsrb", str(tmp_path / "new")).labels) == 16
    assert sorted(path.name for path in (tmp_path / "new/gtsrb").iterdir()) == ["GT-final_test.csv", "GTSRB"]


def test_a_download_with_no_network_ends_in_one_line(monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: (_ for _ in ()).throw(OSError("unreachable")))
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(OSError("unreachable")))
    with pytest.raises(KdopsError, match=r"unreachable.*dataset=digits"):
        data.load("gtsrb")


@pytest.mark.parametrize(
    "change",
    [{"images": np.zeros((2, 1, 2), np.uint8)}, {"labels": np.array([0, 5])}, {"tracks": np.zeros(3)}],
)
def test_arrays_that_do_not_fit_are_refused(change):
    two = np.zeros(2, dtype=np.int64)
    right = {"images": np.zeros((2, 1, 2, 2), np.uint8), "labels": two, "tracks": two, "test": two > 0}
    data.Dataset(name="x", classes=("a",), digest="", notes="", **right)
    with pytest.raises(ValueError, match="must"):
        data.Dataset(name="x", classes=("a",), digest="", notes="", **{**right, **change})


def test_loading_does_not_import_torch(root):
    load = f"from kdops.data import dataset as data; data.load('gtsrb', {str(root)!r})"
    script = f"import sys; {load}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


@real_gtsrb
def test_the_real_gtsrb():
    found = data.load("gtsrb", str(REAL))
    assert found.test.sum() == 12_630
    assert len(found.classes) == 43
    training = ~found.test
    assert np.all(found.tracks[found.test] == -1)
    assert np.all(found.tracks[training] >= 0)
    # No track spans classes.
    pairs = np.unique(np.stack([found.tracks, found.labels])[:, training], axis=1)
    assert len(pairs[0]) == len(np.unique(pairs[0]))
    if training.sum() == 39_209:
        assert len(pairs[0]) == 1307
        assert "Final Training" in found.notes
    start = time.process_time()
    again = data.load("gtsrb", str(REAL))
    assert again.digest == found.digest
    assert isinstance(again.images, np.memmap)
    assert time.process_time() - start < 5  # 0.4 s
