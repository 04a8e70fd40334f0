"""Layouts of image folders: each common one is read with the right labels, or answered with the one thing to do."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from kdops.data.own_data import PARTS, part_of
from tests.data.image_folders import CLASSES, fill, load, picture, refused


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def label_of(image):
    """Return the class that a test picture's brightness stands for."""
    return int(image[:, 2:].mean()) // 70


def agrees(found):
    """Return whether each image has the label that its brightness stands for."""
    return found.labels.tolist() == [label_of(image) for image in found.images]


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("Train", "Val", "Test"), ("training", "validation", "testing"), ("seg_train", "Valid", "seg_test"),
     ("TRAIN", "dev", "TEST"), ("training_set", "val-set", "test_set")],
)  # fmt: skip
def test_parts_go_by_their_usual_names_in_any_case(tmp_path, train, val, test):
    base = tmp_path / "parted"
    for name, count in ((train, 6), (val, 2), (test, 3)):
        fill(base / name, count)
    found = load(base)
    assert found.classes == CLASSES
    assert (found.test.sum(), found.validation.sum()) == (9, 6)
    assert agrees(found)


def test_every_name_of_a_part_is_known_in_any_case():
    for part, names in PARTS.items():
        for name in names:
            assert {part_of(name), part_of(name.upper()), part_of(f" seg_{name} ")} == {part}
    assert {part_of(name) for name in ("cat", "", "trains", "tests")} == {""}


def test_a_part_whose_folder_is_there_twice(tmp_path):
    for part in ("seg_train", "seg_test"):
        fill(tmp_path / "scenes" / part / part, 4)
    found = load(tmp_path / "scenes")
    assert (found.classes, found.test.sum()) == (CLASSES, 12)


def test_parts_by_other_names_are_not_learned_as_classes(tmp_path):
    for name in ("fold1", "fold2"):
        fill(tmp_path / "d" / name, 4)
    text = refused(tmp_path / "d")
    assert "fold1/, fold2/ have the same folders in them (cat/, dog/, ox/)" in text
    assert "call the parts train/, val/ and test/" in text


def tiny_imagenet(base):
    """Make the layout of Tiny ImageNet: annotated validation images, and test images without labels."""
    for label, name in enumerate(CLASSES):
        (base / "train" / name / "images").mkdir(parents=True)
        for number in range(5):
            picture(label, number).save(base / "train" / name / "images" / f"{name}_{number}.JPEG")
    for part in ("val", "test"):
        (base / part / "images").mkdir(parents=True)
        for number in range(6):
            picture(number % 3, number).save(base / part / "images" / f"{part}_{number}.JPEG")
    lines = [f"val_{number}.JPEG\t{CLASSES[number % 3]}\t0\t0\t9\t9" for number in range(6)]
    (base / "val/val_annotations.txt").write_text("\n".join(lines) + "\n")
    return base


def test_tiny_imagenet_is_read_as_it_is_unpacked(tmp_path):
    found = load(tiny_imagenet(tmp_path / "tiny"))
    assert (found.classes, found.validation.sum(), len(found.labels)) == (CLASSES, 6, 21)
    assert agrees(found)
    assert "the 6 files of test/, which has no class folders and so no labels, left out" in found.notes
    assert "without a test set of their own" in found.notes


@pytest.mark.parametrize(
    ("line", "words"),
    [("val_9.JPEG\tcat", "val_annotations.txt line 2 must name an image of val/"),
     ("val_1.JPEG", "val_annotations.txt line 2 must name"),
     ("val_0.JPEG\tdog", "val_annotations.txt line 2 names val_0.JPEG a second time"),
     ("val_1.JPEG\tbird", "class 'bird' has no folder in train/")],
)  # fmt: skip
def test_annotations_that_do_not_fit(tmp_path, line, words):
    base = tiny_imagenet(tmp_path / "tiny")
    first, _, *rest = (base / "val/val_annotations.txt").read_text().splitlines()
    (base / "val/val_annotations.txt").write_text("\n".join([first, line, *rest]) + "\n")
    assert words in refused(base)


def test_annotations_name_each_image_once(tmp_path):
    base = tiny_imagenet(tmp_path / "tiny")
    (base / "val/more").mkdir()
    picture(0, 9).save(base / "val/more/val_0.JPEG")
    assert "val/images/val_0.JPEG and val/more/val_0.JPEG have one name" in refused(base)
    (base / "val/more/val_0.JPEG").rename(base / "val/more/val_9.JPEG")
    assert "val_9.JPEG has no line in val/val_annotations.txt (1 such)" in refused(base)
    (base / "val/val_annotations.txt").rename(base / "kept.txt")
    os.mkfifo(base / "val/val_annotations.txt")
    assert "val_annotations.txt must be a file" in refused(base)
    (base / "kept.txt").rename(base / "val/val_annotations.txt")
    found = load(base, skip_bad="true")
    assert (found.validation.sum(), "1 without a line" in found.notes) == (6, True)


def test_a_link_to_another_class_is_refused(tmp_path):
    base = fill(tmp_path / "pets")
    (base / "cat/more").symlink_to(base / "dog")
    assert "cat/more leads to dog/, so its images would be in two classes" in refused(base)


def listed(base, split=False):
    """Make a folder of images without class folders, and its table of labels."""
    (base / "images").mkdir(parents=True)
    rows = ["file,label" + ",split" * split]
    for number in range(30):
        picture(number % 3, number).save(base / f"images/{number:02}.png")
        part = ",test" if number < 6 else ",Train"
        rows.append(f"images/{number:02}.png,{CLASSES[number % 3]}{part * split}")
    (base / "labels.csv").write_text("\n".join(rows) + "\n")
    return base


@pytest.mark.parametrize("split", [False, True])
def test_a_table_of_labels_instead_of_class_folders(tmp_path, split):
    found = load(listed(tmp_path / "d", split))
    assert (found.classes, len(found.labels), found.test.sum()) == (CLASSES, 30, 6)
    assert agrees(found)
    assert ("come with" in found.notes) == split


def test_a_changed_label_is_another_data_set(tmp_path):
    base = listed(tmp_path / "d")
    before = load(base).digest
    text = (base / "labels.csv").read_text()
    (base / "labels.csv").write_text(text.replace("00.png,cat", "00.png,dog").replace("01.png,dog", "01.png,cat"))
    assert load(base).digest != before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text + "images/99.png,cat\n", "line 32 names images/99.png, and there is no such image"),
        (lambda text: text + "images/00.png,dog\n", "line 32 names images/00.png a second time"),
        (lambda text: text.replace("images/07.png,dog\n", ""), "images/07.png has no line in labels.csv (1 such)"),
        (lambda text: text.replace("file,", "name,"), "must be a table with the columns file and label"),
        (lambda text: text.replace("07.png,dog", "07.png,"), "line 9 lacks a file or a label"),
    ],
)
def test_a_table_of_labels_that_does_not_fit(tmp_path, change, words):
    base = listed(tmp_path / "d")
    (base / "labels.csv").write_text(change((base / "labels.csv").read_text()))
    assert words in refused(base)


def test_a_split_that_does_not_fit(tmp_path):
    base = listed(tmp_path / "d", split=True)
    whole = (base / "labels.csv").read_text()
    (base / "labels.csv").write_text(whole.replace("cat,test", "cat,final"))
    assert "has the split 'final'; allowed are train, val and test" in refused(base)
    (base / "labels.csv").write_text(whole.replace("cat,test", "cat,"))
    assert "has a split for some files only" in refused(base)
    (base / "labels.csv").write_text(whole.replace(",Train", ",val"))
    assert "no file whose split is train" in refused(base)


def test_images_without_a_line_are_left_out_on_demand(tmp_path):
    base = listed(tmp_path / "d")
    picture(0, 0).save(base / "images/new.png")
    assert "images/new.png has no line" in refused(base)
    found = load(base, skip_bad="true")
    assert len(found.labels) == 30
    assert "1 without a line in labels.csv left out" in found.notes


def test_what_archives_and_storages_leave_behind_is_left_alone(tmp_path):
    base = fill(tmp_path / "pets")
    for junk in ("__MACOSX", "@eaDir", "cat/@eaDir", ".ipynb_checkpoints"):
        (base / junk).mkdir()
        (base / junk / "000.png").write_text("x")
    assert load(base).digest == load(fill(tmp_path / "clean")).digest


def test_an_empty_class_folder_is_named_and_left_out_on_demand(tmp_path):
    base = fill(tmp_path / "pets")
    (base / "birds").mkdir()
    assert "birds/ has no image in it" in refused(base)
    found = load(base, skip_bad="true")
    assert found.classes == CLASSES
    assert "the empty folder birds/ left out" in found.notes


def test_an_empty_class_folder_of_one_part(tmp_path):
    for part in ("train", "test"):
        fill(tmp_path / "p" / part, 4)
    shutil.rmtree(tmp_path / "p/test/ox")
    (tmp_path / "p/test/ox").mkdir()
    found = load(tmp_path / "p", skip_bad="true")
    assert (found.classes, found.test.sum()) == (CLASSES, 8)


def test_classes_called_by_numbers_are_in_their_order(tmp_path):
    names = tuple(f"class {number}" for number in (2, 9, 10))
    assert load(fill(tmp_path / "n", 4, classes=names[::-1])).classes == names
    digits = ("9" * 200, "1" + "0" * 200)
    assert load(fill(tmp_path / "long", 4, classes=digits[::-1])).classes == digits
    mixed = ("2 of 10 b", "2 of 10 c", "10 of 9 a")
    assert load(fill(tmp_path / "mixed", 4, classes=mixed[::-1])).classes == mixed
    assert load(fill(tmp_path / "z", 4, classes=("a10", "b", "a9"))).classes == ("a9", "a10", "b")


def test_images_of_twelve_bits_in_sixteen_are_remarked_on(tmp_path):
    base = fill(tmp_path / "deep", 4, mode="L")
    assert "no pixel is brighter" not in load(base).notes
    for path in base.rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path)).astype(np.uint16) << 4).save(path)
    assert "no pixel is brighter than" in load(base).notes
