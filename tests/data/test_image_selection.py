"""Rows that are left out of a transfer set, and noise in labels."""

from dataclasses import replace

import numpy as np
import pytest

from kdops.config.image_selection import Selection
from kdops.data import dataset
from kdops.data.image_selection import fold_of, frames_of_tracks, noisy_labels, select, without_classes
from kdops.errors import UsageError

DIGITS = dataset.load("digits")
ROWS = np.arange(0, len(DIGITS.labels), 2)


def with_tracks():
    tracks = np.full(len(DIGITS.labels), -1)
    tracks[:90] = np.arange(90) // 30  # three tracks of thirty
    tracks[90:94] = 3
    return replace(DIGITS, tracks=tracks)


def test_no_image_of_a_class_that_is_left_out_is_there_and_all_others_are():
    left = without_classes(DIGITS, ROWS, ["3", "7"])
    assert set(DIGITS.labels[left]) == set(range(10)) - {3, 7}
    assert len(left) == np.isin(DIGITS.labels[ROWS], [0, 1, 2, 4, 5, 6, 8, 9]).sum()


@pytest.mark.parametrize("count", [1, 2, 5, 29, 30, 31])
def test_each_track_has_as_many_frames_as_asked_for_evenly_spaced(count):
    data = with_tracks()
    rows = np.arange(100)
    left = frames_of_tracks(data, rows, count)
    assert len(left) == 3 * min(count, 30) + min(count, 4) + 6
    assert (np.diff(left) > 0).all()
    first = left[left < 30]
    assert first[0] == 14 if count == 1 else (first[0], first[-1]) == (0, 29)
    assert count < 3 or np.ptp(np.diff(first)) <= 1


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_a_share_of_the_labels_is_another_class_and_those_measured_on_stay(share):
    clean = np.arange(200)
    labels = noisy_labels(DIGITS, share, 5, clean)
    changed = labels != DIGITS.labels
    assert not changed[clean].any()
    assert changed[200:].mean() == pytest.approx(share, abs=0.03)
    assert set(labels) <= set(range(10))
    assert np.array_equal(labels, noisy_labels(DIGITS, share, 5, clean))
    assert labels.dtype == DIGITS.labels.dtype
    assert share in (0, 1) or (labels != noisy_labels(DIGITS, share, 6, clean)).any()


def test_a_selection_says_in_words_what_is_left_out():
    rows, words = select(with_tracks(), np.arange(100), Selection(("3",), 2))
    assert words == " without 3, 2 of each track"
    assert 3 not in DIGITS.labels[rows]
    assert select(DIGITS, ROWS, Selection()) == (ROWS, "")


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (Selection(leave_out=("eleven",)), "leave_out=eleven: there is no class 'eleven'; the classes are 0, 1"),
        (Selection(leave_out=tuple("0123456789")), "leaves none of 899 images"),
        (Selection(frames=3), "frames=3: must be all: digits has no tracks"),
    ],
)
def test_what_the_data_do_not_have_is_refused(chosen, words):
    with pytest.raises(UsageError, match=words):
        select(DIGITS, ROWS, chosen)


def test_a_choice_that_leaves_no_image_is_refused():
    rows = np.flatnonzero(DIGITS.labels == 3)
    with pytest.raises(UsageError, match="leaves none of"):
        select(DIGITS, rows, Selection(leave_out=("3",)))


def test_one_choice_of_classes_has_one_text():
    text = {"frames": "all", "label_noise": "0", "bootstrap": "false"}
    assert len({Selection.read({**text, "leave_out": one}) for one in ("3,7", "7,3", "3,3,7")}) == 1


def test_what_is_left_out_is_recorded_apart_from_what_else_decides_the_training():
    chosen = Selection(leave_out=("3", "7"), frames=2, label_noise=0.1)
    assert (chosen.of_rows(), chosen.of_training()) == ({"leave_out": "3,7", "frames": 2}, {"label_noise": 0.1})
    assert (Selection().of_rows(), Selection().of_training()) == ({}, {})


@pytest.mark.parametrize("folds", [2, 9])
def test_a_track_is_in_one_fold_and_folds_have_equally_many_of_each_class(folds):
    data, rows = with_tracks(), np.arange(len(DIGITS.labels))
    fold = fold_of(data, rows, folds, seed=3)
    assert all(len(set(fold[data.tracks == track])) == 1 for track in range(4))
    alone = data.tracks < 0
    counts = np.array([[np.sum(alone & (fold == k) & (data.labels == c)) for c in range(10)] for k in range(folds)])
    assert np.ptp(counts, axis=0).max() <= 2  # one, and one that is a track
    assert (fold_of(data, rows, folds, seed=3) == fold).all()
    assert (fold_of(data, rows, folds, seed=4) != fold).any()
