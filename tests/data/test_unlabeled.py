"""Images without labels: what lies in a folder of any nesting, and no name in it decides anything."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from kdops.config.datasets import parse_dataset
from kdops.data import dataset as data_module
from kdops.data import unlabeled
from kdops.errors import UsageError
from kdops.tracking.datasets import Trainset, dataset_inputs
from tests.data.image_folders import fill, load, picture


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def pets(tmp_path):
    return fill(tmp_path / "pets")


def more(folder, numbers=range(100, 106), **how):
    """Make a folder of further pictures, each class in a folder of its own."""
    for label in range(3):
        (folder / f"class{label}").mkdir(parents=True, exist_ok=True)
        for number in numbers:
            picture(label, number, **how).save(folder / f"class{label}" / f"{number}.png")
    return folder


def with_more(pets, folder, **options):
    return load(pets, unlabeled=f"imagefolder:{folder}", **options)


def seen(data):
    return data.unlabeled.images[data.unlabeled.rows]


def test_names_and_folders_decide_nothing(pets, tmp_path):
    one, other = more(tmp_path / "one"), tmp_path / "other"
    random = np.random.default_rng(0)
    for path in sorted(one.rglob("*.png")):
        place = other / f"class{random.integers(3)}" / "deeper" / f"{random.integers(10**9)}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    found = [with_more(pets, folder) for folder in (one, other)]
    assert found[0].unlabeled.digest == found[1].unlabeled.digest
    assert np.array_equal(*map(seen, found))
    assert len(seen(found[0])) == 18
    assert found[0].digest == load(pets).digest, "the labeled data are the same data"
    assert not np.array_equal(found[0].unlabeled.rows, found[1].unlabeled.rows), "the files were in another order"


def test_what_the_data_have_already_is_left_out_and_counted(pets, tmp_path):
    folder = more(tmp_path / "more")
    shutil.copytree(pets, folder / "pets")
    shutil.copytree(folder / "class0", folder / "again")
    (folder / "labels.csv").write_text("no image")
    data = with_more(pets, folder)
    assert np.array_equal(seen(data), seen(with_more(pets, more(tmp_path / "alone"))))
    assert data.unlabeled.notes == (
        "18 images of more; 36 that the labeled data or the folder itself have already are left out"
    )


def test_rows_that_follow_names_of_files_are_in_no_digest_of_a_run(pets, tmp_path):
    one, other = more(tmp_path / "one"), tmp_path / "other"
    for number, path in enumerate(sorted(one.rglob("*.png"), reverse=True)):
        other.mkdir(exist_ok=True)
        shutil.copy(path, other / f"{number:02}.png")
    found = set()
    for data in (with_more(pets, folder) for folder in (one, other)):
        rows = np.append(np.arange(5), data.unlabeled_rows)
        split = SimpleNamespace(validation=rows[:2], test=rows[2:3])
        found.add(dataset_inputs(data, split, Trainset(rows, "all"))[0].dataset.digest)
        found.add(dataset_inputs(data, split, Trainset(rows[:5], "labeled"))[0].dataset.digest)
    assert len(found) == 2, "one of all, one of the labeled alone"


def test_no_image_is_compared_again_that_was_before(pets, tmp_path, monkeypatch):
    folder = more(tmp_path / "more")
    shutil.copytree(pets, folder / "pets")
    first = with_more(pets, folder).unlabeled
    monkeypatch.setattr(unlabeled, "digests_of", None)
    again = with_more(pets, folder).unlabeled
    assert (again.digest, again.notes) == (first.digest, first.notes)
    assert np.array_equal(again.rows, first.rows)


def test_what_is_odd_about_them_is_said_as_of_labeled_images(pets, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 3
    for number in range(3):
        dark = np.full((12, 12, 3), number, dtype=np.uint8)
        Image.fromarray(dark).save(folder / f"{number}.png", exif=exif)
    notes = with_more(pets, folder).unlabeled.notes
    assert "no pixel is brighter than 2 of 255" in notes
    assert "3 are turned by their EXIF data and seen as they lie: upright=true turns them back" in notes
    digits = data_module.load(parse_dataset({"dataset": "digits", "unlabeled": f"imagefolder:{folder}"}))
    assert "seen as they lie: turn the files, for upright=true is" in digits.unlabeled.notes
    with pytest.raises(UsageError, match=r"^upright=true: is for dataset=imagefolder:FOLDER only"):
        parse_dataset({"dataset": "digits", "unlabeled": f"imagefolder:{folder}", "upright": "true"})


def test_they_are_brought_to_the_size_and_the_channels_of_the_data(tmp_path):
    gray = fill(tmp_path / "gray", mode="L")
    data = with_more(gray, more(tmp_path / "large", size=(31, 20)))
    assert data.unlabeled.images.shape == (18, 1, 12, 12)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("imagefolder:nowhere", "there is no such folder"),
        ("imagefolder:pets", "all 30 images are in the labeled data too"),
        ("imagefolder:empty", "has no image in it"),
        ("imagefolder:pets/cat/000.png", "must be a folder"),
        ("imagefolder:broken", "1 file is no readable image"),
        ("pets", "must be imagefolder:FOLDER"),
        ("imagefolder:", "must be imagefolder:FOLDER"),
    ],
)
def test_what_has_nothing_to_learn_from_is_refused_in_one_line(pets, tmp_path, monkeypatch, given, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty" / "within").mkdir(parents=True)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "1.png").write_bytes(b"no image")
    with pytest.raises(UsageError, match=rf"^unlabeled={given}: .*{told}") as caught:
        load(pets, unlabeled=given)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_images_are_left_out_where_it_is_asked_for(pets, tmp_path):
    folder = more(tmp_path / "more")
    (folder / "broken.png").write_bytes(b"no image")
    data = with_more(pets, folder, skip_bad="true")
    assert data.unlabeled.notes == "18 images of more; 1 that are no readable images are left out"
