"""Near-copies across the parts of a split: planted ones are found, and the command reports them."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from kdops.cli.app import main
from kdops.data import dataset as data
from kdops.data.near_duplicates import equal_images, near_duplicates
from kdops.data.splits import check_split, make_split
from tests.data.test_splits import MADE, REAL, real_gtsrb


def plant(images, original, place, random):
    """Overwrite an image by another one's copy, a tenth brighter or darker and with noise."""
    images = np.array(images)
    gain, offset = random.uniform(0.9, 1.1), random.uniform(-5, 5)
    copy = images[original] * gain + offset + random.normal(0, 2, images[original].shape)
    images[place] = np.clip(np.round(copy), 0, 255).astype(np.uint8)
    return images


@pytest.mark.parametrize("seed", range(5))
def test_a_near_duplicate_planted_across_tracks_is_caught(seed):
    random = np.random.default_rng(seed)
    split = make_split(MADE, "disjoint", seed)
    check_split(MADE, split)
    for left, right in ((split.teacher, split.hop(0)), (split.teacher, split.validation)):
        assert not near_duplicates(MADE.images, left, right).size
        original, place = random.choice(left), random.choice(right)
        leaky = replace(MADE, images=plant(MADE.images, original, place, random))
        # The copy keeps its own track: the laws alone cannot see it, the pixels give it away.
        check_split(leaky, split)
        pairs = near_duplicates(leaky.images, left, right)
        assert len(pairs) == 1
        assert pairs[0, 1] == place
        assert MADE.tracks[pairs[0, 0]] == MADE.tracks[original]


def test_a_split_by_frames_is_full_of_near_duplicates():
    usable = np.random.default_rng(0).permutation(np.flatnonzero(~MADE.test))
    half = len(usable) // 2
    assert len(near_duplicates(MADE.images, usable[:half], usable[half:])) > 0.5 * half


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 5, 37), (3, 50, 20), (1, 1, 2)])
def test_near_duplicates_of_any_shape(shape):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (30, *shape), dtype=np.uint8)
    images[25] = images[3]
    pairs = near_duplicates(images, np.arange(20), np.arange(20, 30)).tolist()
    assert [3, 25] in pairs or shape == (1, 1, 2)
    for flat in (0, 77, 255):
        images[[3, 25]] = flat
        assert 25 not in near_duplicates(images, np.arange(20), np.arange(20, 30))[:, 1]


def test_near_duplicates_in_blocks_and_of_nothing(monkeypatch):
    images = MADE.images
    left, right = np.arange(0, 60), np.arange(60, 120)
    whole = near_duplicates(images, left, right)
    assert whole.size
    monkeypatch.setattr("kdops.data.near_duplicates.BLOCK", 7)
    assert np.array_equal(near_duplicates(images, left, right), whole)
    for empty in (near_duplicates(images, [], right), near_duplicates(images, left, [])):
        assert empty.shape == (0, 2)


@real_gtsrb
def test_near_duplicates_on_the_real_gtsrb(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = data.load("gtsrb", str(REAL))
    random = np.random.default_rng(0)
    split = make_split(found, "disjoint", 0)
    teacher, transfer = split.teacher, split.hop(0)
    assert len(near_duplicates(found.images, teacher, transfer)) < 0.005 * len(transfer)
    mixed = random.permutation(np.concatenate([teacher, transfer]))
    by_frames = near_duplicates(found.images, mixed[: len(teacher)], mixed[len(teacher) :])
    assert len(by_frames) > 0.05 * len(transfer)
    originals = random.choice(teacher, 200, replace=False)
    noise = random.normal(0, 2, (200, *found.shape))
    copies = np.clip(np.round(found.images[originals] * 1.1 + 5 + noise), 0, 255).astype(np.uint8)
    both = np.concatenate([found.images[teacher], copies])
    assert len(near_duplicates(both, np.arange(len(teacher)), np.arange(len(teacher), len(both)))) >= 190


def test_equal_images_are_found_by_their_bytes():
    images = np.array(MADE.images)
    images[70] = images[3]
    left, right = np.arange(0, 60), np.arange(60, 90)
    assert equal_images(images, left, right).tolist() == [70]
    assert equal_images(images, left, right[:0]).size == 0


@pytest.fixture
def signs(tmp_path, monkeypatch):
    """A folder of two classes with a test part, in which one test image is a copy of a training image."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 4)):
        for name in ("give-way", "stop"):
            folder = tmp_path / "signs" / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:02}.png")
    train, test = (tmp_path / "signs" / part / "stop" for part in ("train", "test"))
    (test / "00.png").write_bytes((train / "05.png").read_bytes())
    return tmp_path / "signs"


def test_the_command_reports_sizes_parts_and_copies(signs, capsys):
    assert main(["check-data", "--dataset", "imagefolder:signs"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "signs: 32 images of 3 x 16 x 16 (channels x height x width) in 2 classes"
    assert "classes: 16 images each" in told
    assert any(line.startswith("parts (transfer=disjoint): ") and line.endswith("test 8") for line in told)
    copies = [line for line in told if line.startswith("copies: ")]
    assert copies[0].startswith("copies: 1 test image is equal to a training image")
    assert any("1 near-copy" in line for line in copies)


def test_copies_of_what_is_measured_on_are_found_among_unlabeled_images_too(signs, tmp_path, capsys):
    more = tmp_path / "more"
    more.mkdir()
    random = np.random.default_rng(1)
    for number in range(5):
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(more / f"{number}.png")
    for name in ("01", "02"):
        known = np.asarray(Image.open(signs / "test" / "stop" / f"{name}.png"))
        Image.fromarray((0.9 * known).astype(np.uint8)).save(more / f"copy{name}.png")
    assert main(["check-data", "--dataset", "imagefolder:signs", "--unlabeled", "imagefolder:more"]) == 0
    told = capsys.readouterr().out
    assert "without labels: 7 images of more" in told
    assert "copies: 2 near-copies of unlabeled images among the 8 of test (25.00%; thumbnails correlate" in told


def test_the_command_says_that_there_are_no_copies(signs, capsys):
    (signs / "test" / "stop" / "00.png").unlink()
    assert main(["check-data", "--dataset", "imagefolder:signs"]) == 0
    assert "copies: none across the parts" in capsys.readouterr().out


def test_a_table_has_rows_and_no_near_copies(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    rows = "\n".join(f"{n},{n % 7},{'ab'[n % 2]}" for n in range(60))
    (tmp_path / "t.csv").write_text(f"x,y,kind\n{rows}\n")
    assert main(["check-data", "--dataset", "csv:t.csv", "--label", "kind"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("t: 60 rows of 2 values in 2 classes")
    assert "near-copy" not in told


def test_a_mistake_is_one_line(capsys):
    assert main(["check-data", "--dataset", "nothing"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
