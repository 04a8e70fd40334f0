"""Folders of images: what is in them arrives, and what is wrong with them is said in one line."""

import os
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from kdops.data import cache
from kdops.data import images as pictures
from kdops.data import memmap as mapped
from kdops.data.splits import make_split
from kdops.errors import KdopsError
from tests.data.image_folders import CLASSES, fill, load, picture, refused


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KDOPS_DATA_ROOT", raising=False)


@pytest.fixture
def pets(tmp_path):
    return fill(tmp_path / "pets")


def test_a_folder_with_one_folder_a_class(pets):
    found = load(pets)
    assert (found.name, found.given) == ("pets", f"imagefolder:{pets}")
    assert found.shape == (3, 12, 12)
    assert found.classes == CLASSES
    assert np.bincount(found.labels).tolist() == [10, 10, 10]
    expected = [np.asarray(picture(label, n)).transpose(2, 0, 1) for label in range(3) for n in range(10)]
    np.testing.assert_array_equal(found.images, expected)
    assert isinstance(found.images, np.memmap)
    assert not found.images.flags.writeable
    assert np.bincount(found.labels[found.test]).tolist() == [2, 2, 2]
    assert "30 color images of 3 classes, 12 x 12" in found.notes
    assert "a fixed fifth by class" in found.notes
    assert str(pets.parent) not in found.notes + found.name
    assert len(make_split(found, "disjoint", 0).validation) == 3


def test_it_is_what_torchvision_reads(pets):
    from torchvision.datasets import ImageFolder

    found, expected = load(pets), ImageFolder(pets)
    assert list(found.classes) == expected.classes
    assert found.labels.tolist() == expected.targets
    np.testing.assert_array_equal(found.images, [np.asarray(image).transpose(2, 0, 1) for image, _ in expected])


def test_given_parts_are_kept(tmp_path):
    base = tmp_path / "parted"
    for part, count in (("train", 8), ("val", 2), ("test", 3)):
        fill(base / part, count)
    found = load(base)
    assert (found.validation.sum(), found.test.sum()) == (6, 9)
    for seed in range(3):
        for mode in ("disjoint", "shared", "fresh"):
            split = make_split(found, mode, seed)
            assert np.array_equal(split.validation, np.flatnonzero(found.validation))
            assert np.array_equal(split.test, np.flatnonzero(found.test))
    assert make_split(found, "shared", 0).teacher.size == 24
    assert make_split(found, "disjoint", 0).digest != make_split(found, "disjoint", 1).digest
    assert "9 of them are the test set that they come with; 6 are the validation set" in found.notes
    assert load(base).digest == found.digest  # from the cache, validation included


@pytest.mark.parametrize("given", [("train", "test"), ("train", "valid"), ("train",)])
def test_parts_that_are_not_given_are_made(tmp_path, given):
    base = tmp_path / "parted"
    for part in given:
        fill(base / part, 10)
    found = load(base)
    assert (found.validation is None) == ("valid" not in given)
    assert found.test.sum() == (30 if "test" in given else 6)
    if found.validation is not None:
        assert not (found.test & found.validation).any()
    make_split(found, "disjoint", 0)


def test_a_class_may_be_called_train(tmp_path):
    assert load(fill(tmp_path / "traffic", classes=("car", "train"))).classes == ("car", "train")


def test_groups_stay_together(pets):
    rows = [f"{name}/{n:03}.png,{name} {n // 2}" for name in CLASSES for n in range(10) if n != 9]
    (pets / "groups.csv").write_text("\ufefffile,group\n" + "\n".join([rows[0], f"./{rows[1]}", *rows[2:]]) + "\n")
    found = load(pets)
    assert found.has_tracks
    assert found.tracks[:10].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, -1]
    assert "by group and class" in found.notes
    split = make_split(found, "disjoint", 0)
    for part in (split.test, split.validation, split.teacher, split.hop(0)):
        known = found.tracks[part][found.tracks[part] >= 0]
        outside = np.setdiff1d(np.arange(30), part)
        assert not np.isin(known, found.tracks[outside]).any()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("file,group\ncat/none.png,a\n", "line 2 names cat/none.png"),
        ("file,group\n../pets/cat/000.png,a\n", "there is no such image"),
        ("file,group\ncat/000.png,a\ncat/000.png,b\n", "a second group"),
        ("file,group\ncat/000.png,\n", "line 2 lacks"),
        ("file,group\ncat/000.png\n", "line 2 lacks"),
        ("name,group\ncat/000.png,a\n", "columns file and group"),
        ("", None),
        ("file,group\n" + "".join(f"cat/{n:03}.png,all\n" for n in range(10)), "class 'cat' has 1 groups"),
    ],
)
def test_a_table_of_groups_that_does_not_fit(pets, content, words):
    (pets / "groups.csv").write_text(content)
    if words is None:
        assert not load(pets).has_tracks
    else:
        assert words in refused(pets)


def test_groups_of_images_that_are_left_out_do_not_matter(pets):
    (pets / "labels.csv").write_text(
        "file,label\n" + "".join(f"{name}/{n:03}.png,{name}\n" for name in CLASSES for n in range(9))
    )
    (pets / "groups.csv").write_text("file,group\ncat/010.png,a\n")
    assert "groups.csv line 2 names cat/010.png, and there is no such image" in refused(pets, skip_bad="true")
    (pets / "groups.csv").write_text("file,group\n" + "".join(f"{name}/009.png,a\n" for name in CLASSES))
    assert len(load(pets, skip_bad="true").labels) == 27


def test_a_group_in_two_parts_is_refused(tmp_path):
    for part in ("train", "test"):
        fill(tmp_path / "p" / part)
    (tmp_path / "p/groups.csv").write_text("file,group\ntrain/cat/000.png,a\ntest/cat/003.png,a\n")
    text = refused(tmp_path / "p")
    assert "train/cat/000.png and test/cat/003.png are of one group" in text


def test_mixed_sizes_say_so_and_are_resized_when_a_size_is_given(pets):
    picture(0, 0, (14, 10)).save(pets / "cat/000.png")
    text = refused(pets)
    assert "12x12 (29), 10x14 (1)" in text
    assert "image_size=12x12" in text
    found = load(pets, image_size="6x8")
    assert found.shape == (3, 6, 8)
    expected = picture(0, 0, (14, 10)).resize((8, 6), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found.images[0].transpose(1, 2, 0), expected)
    assert load(pets, image_size="6").digest != found.digest


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("1", 1), ("P", 3), ("RGBA", 3)])
def test_modes_become_gray_or_color(tmp_path, mode, channels):
    found = load(fill(tmp_path / "m", mode=mode))
    assert found.shape == (channels, 12, 12)
    expected = picture(1, 0, mode=mode).convert("L" if channels == 1 else "RGB")
    np.testing.assert_array_equal(found.images[10], np.asarray(expected).reshape(12, 12, channels).transpose(2, 0, 1))


def test_mixed_modes_become_the_common_one(pets):
    picture(0, 0, mode="L").save(pets / "cat/000.png")
    found = load(pets)
    assert found.shape == (3, 12, 12)
    assert np.array_equal(found.images[0][0], found.images[0][2])
    assert load(pets, channels="1").shape == (1, 12, 12)


def test_sixteen_bit_gray_keeps_its_shades(tmp_path):
    base = fill(tmp_path / "deep", mode="L")
    shades = (np.arange(144).reshape(12, 12) * 400).astype(np.uint16)
    Image.fromarray(shades).save(base / "cat/000.png")
    np.testing.assert_array_equal(load(base).images[0, 0], np.round(shades / 257))


def bomb(width, height):
    """Make a PNG that says it is giant and has next to nothing in it."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 12 12\n%%EndComments\nshowpage\n"
BAD = {
    "empty": b"",
    "text": b"no image\nat all",
    "cut off": None,
    "bomb": bomb(60_000, 60_000),
    "giant": bomb(2**31 - 1, 2**31 - 1),
    "a bit too big": bomb(8193, 8192),
    "program": POSTSCRIPT,
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_is_no_image_is_named_and_left_out_on_demand(pets, kind, recwarn):
    path = pets / "dog/004.png"
    path.write_bytes(path.read_bytes()[:200] if BAD[kind] is None else BAD[kind])
    text = refused(pets)
    assert "dog/004.png" in text
    assert "skip_bad=true" in text
    found = load(pets, skip_bad="true")
    assert np.bincount(found.labels).tolist() == [10, 9, 10]
    assert found.images[13, 0, 0, 0] == 3
    assert found.images[14, 0, 0, 0] == 5
    assert "1 that is no readable image left out" in found.notes
    assert load(pets, skip_bad="true").notes == found.notes
    assert not [warning for warning in recwarn if "PIL" in str(warning.filename)]


def test_many_bad_files_are_counted_and_all_of_them_are_refused(pets):
    for number in range(5):
        (pets / f"cat/{number:03}.png").write_text("x")
    text = refused(pets)
    assert "5 files are no readable image (cat/000.png" in text
    assert "and 2 more" in text
    for path in pets.rglob("*.png"):
        path.write_text("x")
    assert "none of the 30 files is a readable image" in refused(pets, skip_bad="true")


def test_what_is_no_file_is_named_and_not_waited_for(pets):
    os.mkfifo(pets / "cat/pipe.png")
    (pets / "cat/gone.png").symlink_to(pets / "nothing")
    text = refused(pets)
    assert "cat/gone.png: leads nowhere" in text
    assert "cat/pipe.png: no file" in text
    assert len(load(pets, skip_bad="true").labels) == 30


def test_what_others_leave_behind_is_left_alone(pets):
    for name in (".DS_Store", "cat/.hidden", "cat/Thumbs.db", "README.md", "dog/desktop.ini"):
        (pets / name).write_text("x")
    (pets / ".git").mkdir()
    assert len(load(pets).labels) == 30


def test_folders_within_a_class_and_links_are_followed_once(pets):
    (pets / "cat/kittens").mkdir()
    (pets / "cat/000.png").rename(pets / "cat/kittens/000.png")
    (pets / "cat/kittens/up").symlink_to(pets / "cat")
    (pets / "ox").rename(pets.parent / "elsewhere")
    (pets / "ox").symlink_to(pets.parent / "elsewhere")
    assert np.bincount(load(pets).labels).tolist() == [10, 10, 10]


def without(part, label):
    def change(base):
        shutil.rmtree(base / part / label)

    return change


def emptied(part, label):
    def change(base):
        for path in (base / part / label).iterdir():
            path.unlink()

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("test", "ox"), "class 'ox' has no folder in test/"),
        (without("val", "ox"), "class 'ox' has no folder in val/"),
        (without("train", "ox"), "class 'ox' has no folder in train/"),
        (emptied("test", "ox"), "test/ox/ has no image"),
        (lambda base: shutil.rmtree(base / "train"), "has test/, val/ and no train/"),
        (lambda base: (base / "birds").mkdir(), "has birds/ beside test/"),
        (lambda base: shutil.copytree(base / "val", base / "valid"), "has one part twice"),
        (lambda base: [shutil.rmtree(base / part / label) for part in ("train", "val", "test")
                       for label in ("ox", "dog")], "at least 2 classes, and has 'cat' alone"),
        (lambda base: picture(0, 0).save(base / "train/a.png"), "train/a.png lies beside the class folders"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit(tmp_path, change, words):
    for part in ("train", "val", "test"):
        fill(tmp_path / "p" / part, 4)
    change(tmp_path / "p")
    assert words in refused(tmp_path / "p")


def test_folders_that_are_none(tmp_path, pets):
    assert "no such folder" in refused(tmp_path / "none")
    assert "this is a file" in refused(pets / "cat/000.png")
    (tmp_path / "empty").mkdir()
    assert "no class folders" in refused(tmp_path / "empty")
    assert "000.png lies in no class folder" in refused(pets / "cat")
    (tmp_path / "hollow/cat").mkdir(parents=True)
    assert "cat/ has no image" in refused(tmp_path / "hollow")
    assert "cannot be printed" in refused(fill(tmp_path / "odd", classes=("a\x1b[31m", "b")))


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_images_say_how_many_are_needed(tmp_path, count):
    text = refused(fill(tmp_path / "few", count))
    assert f"class 'cat' has {count} images, and needs at least 3 (4 unless transfer=shared)" in text


def test_the_fewest_images_that_can_be_split(tmp_path):
    make_split(load(fill(tmp_path / "four", 4)), "disjoint", 0)
    three = load(fill(tmp_path / "three", 3))
    make_split(three, "shared", 0)
    with pytest.raises(KdopsError, match=r"three: class 'cat' has 2 images .*needs at least 3.*transfer=shared"):
        make_split(three, "disjoint", 0)


def test_the_cache_serves_until_something_changes(pets):
    calls = []
    first = load(pets, lambda *call: calls.append(call))
    assert calls == [(30, 30)]
    again = load(pets, lambda *call: calls.append(call))
    assert (len(calls), again.digest) == (1, first.digest)
    os.utime(pets / "cat/000.png", ns=(1, 1))
    assert load(pets, lambda *call: calls.append(call)).digest == first.digest
    (pets / "cat/000.png").unlink()
    assert load(pets, lambda *call: calls.append(call)).digest != first.digest


@pytest.mark.parametrize("settled", [-(10**12), 10**12], ids=["by inode", "by content"])
def test_classes_that_change_places_are_seen(tmp_path, monkeypatch, settled):
    """Equal sizes, equal times, other labels."""
    monkeypatch.setattr(cache, "SETTLED", settled)
    folder = fill(tmp_path / "pets")
    for path in list(folder.rglob("*.png")):
        Image.open(path).save(path.with_suffix(".bmp"))
        os.utime(path.with_suffix(".bmp"), ns=(1, 1))
        path.unlink()
    before = load(folder)
    (folder / "cat").rename(folder / "away")
    (folder / "dog").rename(folder / "cat")
    (folder / "away").rename(folder / "dog")
    after = load(folder)
    assert after.digest != before.digest
    assert np.array_equal(after.images[after.labels == 0], before.images[before.labels == 1])


def test_the_digest_does_not_depend_on_the_place_or_the_number_of_threads(pets, tmp_path, monkeypatch):
    before = load(pets).digest
    shutil.copytree(pets, tmp_path / "copy/pets")
    monkeypatch.setattr(pictures.os, "sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.setattr(pictures, "BLOCK", 7)
    assert load(tmp_path / "copy/pets").digest == before


def test_a_set_is_decoded_onto_the_disk_and_never_copied_whole(tmp_path, monkeypatch):
    big = fill(tmp_path / "big", 6, size=(512, 512))
    whole = 18 * 3 * 512 * 512
    tracemalloc.start()
    try:
        found = load(big)
        make_split(found, "disjoint", 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert isinstance(found.images, np.memmap)
    assert peak < 0.5 * whole


def test_where_there_is_no_room_on_disk_the_images_stay_in_memory(pets, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "posix_fallocate", full)
    expected = load(pets)
    assert "No space left" in caplog.text
    assert expected.images.shape == (30, 3, 12, 12)
    left = [path.suffix for path in (cache.user_cache_folder() / "decoded").iterdir()]
    assert ".tmp" not in left


def test_what_fits_neither_on_disk_nor_into_memory_is_refused(pets, monkeypatch):
    room = cache.psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr(cache.os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    monkeypatch.setattr(cache.psutil, "virtual_memory", lambda: room)
    with pytest.raises(KdopsError, match=r"take 1\.5 GB: neither .* nor the memory has room"):
        load(pets, image_size="4096")
    assert [path.name for path in (cache.user_cache_folder() / "decoded").iterdir()] == [".lock"]


def test_loading_imports_no_torch(pets):
    script = (
        f"import sys; from kdops.data import dataset as data; data.load('imagefolder:{pets}'); "
        "assert not {'torch', 'torchvision', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_a_study_of_a_folder_through_the_command_line(pets, empty_database, monkeypatch, capfd):
    from kdops.cli.app import main
    from tests.conftest import Place, copy_database

    place = Place(pets.parent)
    copy_database(empty_database, place.database)
    place.enter(monkeypatch)
    common = ["--dataset", "imagefolder:pets", "--epochs", "1", "--seeds", "1", "--transfer", "shared"]
    assert main(["teacher", *common]) == 0
    assert main(["students", *common, "--temperatures", "2,4"]) == 0
    capfd.readouterr()
    children = place.children()
    assert {run.data.tags["kdops.dataset"] for run in children} == {"pets"}
    # The teacher of the first study is the source of the second.
    assert sorted(run.data.tags["kdops.role"] for run in children) == ["student"] * 3 + ["teacher"]
    names = {model.name for model in place.client.search_registered_models()}
    assert names == {"kdops-pets-teacher", "kdops-pets-student"}
    titles = [run.info.run_name for run in place.studies()]
    assert titles == ["students pets shared 1 seed", "teacher pets shared 1 seed"]
    import mlflow

    student = mlflow.pyfunc.load_model("models:/kdops-pets-student@champion")
    assert student.predict(np.zeros((2, 3, 12, 12), np.uint8)).shape == (2, 3)
    assert student.metadata.metadata["class_names"] == list(CLASSES)
    # The same networks come of images that stay in their file.
    kept = {run.data.tags["mlflow.runName"]: run.data.tags["kdops.weights"] for run in children}
    monkeypatch.setattr(mapped, "IN_MEMORY", 0)
    settings = {"epochs": "1", "seeds": "1", "transfer": "shared", "temperatures": "2,4", "fresh": "true"}
    parent = place.run("students", dataset=f"imagefolder:{pets}", **settings)
    again = {run.data.tags["mlflow.runName"]: run.data.tags["kdops.weights"] for run in place.children(parent)}
    assert again == kept
    (pets / "cat/000.png").unlink()
    place.run("teacher", dataset=f"imagefolder:{pets}", seeds=1)
    assert "the registry has 8 models of other data called pets" in capfd.readouterr().err
    before = len(place.studies())
    assert main(["teacher", "--dataset", "imagefolder:dogs"]) == 2
    assert "there is no such folder" in capfd.readouterr().err
    assert len(place.studies()) == before, "no run is made for a mistake"
