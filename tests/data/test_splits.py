"""The laws of a split."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdops.data import dataset as data
from kdops.data.dataset import Dataset
from kdops.data.splits import MODES, VALIDATION, Split, _split, check_split, groups_of, make_split
from kdops.errors import KdopsError, UsageError

REAL = Path(os.environ.get("KDOPS_DATA_ROOT") or "/nonexistent").expanduser()
real_gtsrb = pytest.mark.skipif(not (REAL / "gtsrb").is_dir(), reason="GTSRB is not in KDOPS_DATA_ROOT")
seeds = st.integers(0, 2**31 - 1)


def make_data(tracks_of_class=(12, 12, 12), frames=4, tests=6, known=True, seed=0):
    """Make a set whose tracks look different and whose frames of one track look alike."""
    random = np.random.default_rng(seed)
    images, labels, tracks = [], [], []
    for label, count in enumerate(tracks_of_class):
        for _ in range(count):
            track = len(set(tracks))
            sign = random.integers(60, 196, (3, 32, 32))
            for _ in range(frames):
                images.append(sign + random.normal(0, 3, sign.shape))
                labels.append(label)
                tracks.append(track)
    for index in range(tests):
        images.append(random.integers(0, 256, (3, 32, 32)))
        labels.append(index % len(tracks_of_class))
        tracks.append(-1)
    order = random.permutation(len(labels))
    tracks = np.array(tracks, dtype=np.int64)
    return Dataset(
        name="made",
        images=np.clip(np.array(images), 0, 255).astype(np.uint8)[order],
        labels=np.array(labels, dtype=np.int64)[order],
        tracks=tracks[order] if known else np.full_like(tracks, -1),
        test=(np.arange(len(labels)) >= len(labels) - tests)[order],
        classes=tuple("abcdefgh"[: len(tracks_of_class)]),
        digest=f"digest {seed}",
        notes="",
    )


MADE = make_data()
TRACKLESS = make_data(frames=1, known=False)


def parts(split):
    """Return the parts that differ, by name."""
    transfers = {id(part): part for part in split.transfers}.values()
    return [split.validation, split.teacher, split.test, *(p for p in transfers if p is not split.teacher)]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(MODES),
    seeds,
    st.integers(1, 3),
    st.lists(st.integers(5, 30), min_size=1, max_size=4),
    st.booleans(),
)
def test_every_split_obeys_the_laws(mode, seed, hops, tracks_of_class, known):
    made = make_data(tracks_of_class, frames=2 if known else 1, known=known)
    split = make_split(made, mode, seed, hops)
    check_split(made, split)
    assert len(split.transfers) == hops
    # Every image is in exactly one of the parts that differ.
    assert np.array_equal(np.sort(np.concatenate(parts(split))), np.arange(len(made.labels)))
    for part in parts(split):
        assert part.dtype == np.int64
        assert np.all(np.diff(part) > 0)
        assert not part.flags.writeable
    for part in (split.teacher, split.validation, *split.transfers):
        assert set(made.labels[part]) == set(made.labels)
    training = [part for part in parts(split) if part is not split.validation and part is not split.test]
    for label in set(made.labels):
        counts = [np.sum(made.labels[part] == label) for part in training]
        assert max(counts) - min(counts) <= (2 if known else 1)
    # Nor do the odd tracks of all classes go to one part.
    assert max(map(len, training)) - min(map(len, training)) <= (2 if known else 1)


@settings(max_examples=15, deadline=None)
@given(seeds, st.integers(1, 4))
def test_validation_and_test_are_the_same_in_all_modes(seed, hops):
    split = make_split(MADE, "disjoint", seed)
    for mode in MODES:
        other = make_split(MADE, mode, seed, hops)
        assert np.array_equal(other.validation, split.validation)
        assert np.array_equal(other.test, split.test)


def test_the_modes():
    disjoint, shared, fresh = (make_split(MADE, mode, 0, hops=3) for mode in MODES)
    assert disjoint.hop(0) is disjoint.hop(2)
    assert not np.intersect1d(disjoint.teacher, disjoint.hop(0)).size
    assert shared.hop(0) is shared.teacher
    assert len({fresh.hop(hop).tobytes() for hop in range(3)}) == 3
    for split in (disjoint, shared, fresh):
        with pytest.raises(KdopsError, match="hop 3"):
            split.hop(3)
        with pytest.raises(KdopsError, match="hop -1"):
            split.hop(-1)


def test_only_its_arguments_move_a_split():
    np.random.seed(1)  # noqa: NPY002 (global state must not matter)
    first = make_split(MADE, "fresh", 5)
    np.random.seed(2)  # noqa: NPY002
    second = make_split(MADE, "fresh", 5)
    assert first.digest == second.digest
    assert np.array_equal(first.teacher, second.teacher)
    assert not np.array_equal(first.validation, make_split(MADE, "fresh", 6).validation)


@pytest.mark.parametrize(
    ("mode", "digest"),
    [
        ("disjoint", "955f2f1238760a1b"),
        ("shared", "255b8317ba991831"),
        ("fresh", "28cdb5d45c570e77"),
    ],
)
def test_a_split_is_the_one_that_it_was(mode, digest):
    """Models of before are used again where the digest of their split is the same."""
    assert make_split(MADE, mode, 0).digest.startswith(digest)


def test_the_digest_tells_splits_apart_but_not_hops_that_see_the_same_images():
    different = [
        make_split(MADE, "disjoint", 0),
        make_split(MADE, "disjoint", 1),
        make_split(MADE, "shared", 0),
        make_split(MADE, "fresh", 0, 2),
        make_split(MADE, "fresh", 0, 3),
        make_split(replace(MADE, digest="other"), "disjoint", 0),
    ]
    assert len({split.digest for split in different}) == len(different)
    assert make_split(MADE, "disjoint", 0, 1).digest == make_split(MADE, "disjoint", 0, 4).digest


def test_digits_splits():
    digits = data.load("digits")
    split = make_split(digits, "disjoint", 0)
    assert len(split.test) == 359
    assert [len(part) for part in (split.validation, split.teacher, split.hop(0))] == [143, 648, 647]


@pytest.mark.parametrize(
    ("count", "mode", "part"),
    [
        (0, "shared", "validation"),
        (1, "shared", "training"),
        (2, "disjoint", "transfer"),
        (3, "fresh", "transfer 2"),
    ],
)
def test_a_class_with_too_few_tracks_is_named(count, mode, part):
    with pytest.raises(KdopsError, match=rf"class 'b' has {count} track.*the {part} part") as caught:
        make_split(make_data((12, count, 12)), mode, 0)
    assert "\n" not in str(caught.value)
    make_split(make_data((12, count + 1 + (count == 0), 12)), mode, 0)


@pytest.mark.parametrize("mode", ["", "half", "Disjoint"])
def test_an_unknown_mode_lists_the_known_ones(mode):
    with pytest.raises(UsageError, match="disjoint, shared, fresh"):
        make_split(MADE, mode, 0)


def test_a_split_needs_a_hop():
    with pytest.raises(ValueError, match="hops"):
        make_split(MADE, "fresh", 0, 0)


def moved(split: Split, images, source: str, target: str) -> Split:
    """Put some images of one part into another as well, or move them where source is given."""
    get = lambda name: split.transfers[0] if name == "transfer" else getattr(split, name)  # noqa: E731
    changes = {target: np.union1d(get(target), images)}
    if source:
        changes[source] = np.setdiff1d(get(source), images)
    if "transfer" in changes:
        changes["transfers"] = (changes.pop("transfer"),) * len(split.transfers)
    return replace(split, **changes)


@pytest.mark.parametrize("target", ["transfer", "validation"])
def test_a_shared_image_is_noticed(target):
    split = make_split(MADE, "disjoint", 0)
    with pytest.raises(KdopsError, match="share 1 images"):
        check_split(MADE, moved(split, split.teacher[:1], "", target))


@pytest.mark.parametrize("target", ["transfer", "validation"])
def test_a_track_on_two_sides_is_noticed(target):
    split = make_split(MADE, "disjoint", 0)
    with pytest.raises(KdopsError, match="share 1 tracks"):
        check_split(MADE, moved(split, split.teacher[:1], "teacher", target))


@pytest.mark.parametrize("mode", ["shared", "fresh"])
def test_a_leak_into_any_transfer_is_noticed(mode):
    split = make_split(MADE, mode, 0)
    leaky = replace(split, transfers=(split.transfers[0], np.union1d(split.transfers[1], split.validation[:1])))
    with pytest.raises(KdopsError, match="share"):
        check_split(MADE, leaky)


def test_a_leak_of_the_test_set_and_a_lost_class_are_noticed():
    split = make_split(MADE, "disjoint", 0)
    with pytest.raises(KdopsError, match="share 1 images"):
        check_split(MADE, moved(split, split.test[:1], "", "teacher"))
    with pytest.raises(KdopsError, match="test set"):
        check_split(MADE, moved(split, split.test[:1], "test", "teacher"))
    without = split.validation[MADE.labels[split.validation] != 1]
    with pytest.raises(KdopsError, match="validation part has no image of class 'b'"):
        check_split(MADE, replace(split, validation=without))


def test_a_class_that_is_in_the_minority_everywhere_is_refused_for_what_it_is():
    """It has images, in tracks of another class; "0 tracks" said that there was nothing."""
    made = make_data()
    labels = made.labels.copy()
    labels[labels == 2] = 1
    labels[np.unique(made.tracks, return_index=True)[1][1:13]] = 2
    with pytest.raises(UsageError, match=r"class '.*' has 12 images outside the test set, and in each of their tracks"):
        make_split(replace(made, labels=labels), "shared", 0)


@pytest.mark.parametrize("mode", MODES)
def test_images_that_come_for_validation_are_the_validation_part_and_no_other(mode):
    given = np.zeros(len(TRACKLESS.labels), dtype=bool)
    given[np.flatnonzero(~TRACKLESS.test)[::3]] = True
    made = replace(TRACKLESS, validation=given)
    split = make_split(made, mode, 3)
    assert np.array_equal(split.validation, np.flatnonzero(given))
    assert np.array_equal(np.sort(np.concatenate(parts(split))), np.arange(len(made.labels)))
    with pytest.raises(UsageError, match="outside the test and validation sets"):
        make_split(replace(made, validation=given | ((made.labels == 1) & ~made.test)), mode, 3)


def test_the_parts_of_fresh_images_share_none_and_all_hops_count_in_the_digest():
    split = make_split(MADE, "fresh", 0, hops=2)
    with pytest.raises(KdopsError, match="transfer 1 and transfer 2 share"):
        check_split(MADE, replace(split, transfers=(split.transfers[0], split.transfers[0])))
    first, second = split.transfers
    digests = [
        _split(MADE, split.teacher, transfers, split.validation, mode, 0).digest
        for mode in ("fresh", "disjoint")
        for transfers in ((first, second), (first, second[1:]))
    ]
    # Of the other modes the hops see the same images, so the first one stands for all.
    assert len(set(digests)) == 3
    assert digests[2] == digests[3]
    assert make_split(MADE, "fresh", 5).seed == 5


def test_a_test_set_may_lack_a_class_and_images_of_unknown_track_may_lie_beside_known_ones():
    few = make_data(tests=1)
    assert set(few.labels[make_split(few, "disjoint", 0).test]) == {0}
    some = replace(MADE, tracks=np.where(np.arange(len(MADE.labels)) % 2, MADE.tracks, -1))
    groups = {track: set() for track in np.unique(some.tracks) if track >= 0}
    split = make_split(some, "disjoint", 0)
    for number, part in enumerate(parts(split)):
        for track in some.tracks[part]:
            if track >= 0:
                groups[track].add(number)
    assert all(len(found) == 1 for found in groups.values())


def test_an_image_of_unknown_track_goes_with_no_other_image():
    """The tracks of two classes are known; of the third each image is dealt by itself, whatever its number."""
    some = replace(MADE, tracks=np.where(MADE.labels == 2, -1, MADE.tracks))
    known, alone = (np.flatnonzero(~some.test & ((some.labels == 2) == each)) for each in (False, True))
    group, _ = groups_of(some, np.concatenate([alone, known]))
    assert len(np.unique(group)) == len(np.unique(some.tracks[known])) + len(alone)
    split = make_split(some, "disjoint", 0)
    counts = [np.sum(some.labels[part] == 2) for part in (split.validation, split.teacher, split.hop(0))]
    assert counts[0] == round(VALIDATION * len(alone))
    assert sum(counts) == len(alone)
    assert abs(counts[1] - counts[2]) <= 1
