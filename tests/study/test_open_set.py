"""Embeddings on classes that were never seen, by hand."""

import numpy as np
import pytest

from kdops.study.open_set import open_set, some_of_each

LABELS = np.array([0, 0, 0, 1, 1, 1])
TRACKS = np.array([0, 1, 2, 3, 4, 5])
ANGLES = np.radians([0.0, 1.0, 2.0, 90.0, 91.0, 92.0])


def circle(angles):
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_classes_that_lie_apart_are_told_apart_whatever_the_lengths():
    found = open_set(circle(ANGLES) * np.arange(1, 7)[:, None], LABELS, TRACKS)
    assert (found.recall, found.auc) == (1.0, 1.0)


def test_shares_are_counted_over_images_and_over_pairs():
    # The last image of class 0 lies in class 1, nearer to two images of it than these are to their own.
    found = open_set(circle(np.radians([0.0, 1.0, 91.4, 90.0, 91.0, 93.0])), LABELS, TRACKS)
    assert found.recall == pytest.approx(3 / 6)
    same, other = [1.0, 91.4, 90.4, 1.0, 3.0, 2.0], [90.0, 91.0, 93.0, 89.0, 90.0, 92.0, 1.4, 0.4, 1.6]
    assert found.auc == pytest.approx(np.mean([[(a < b) + 0.5 * (a == b) for b in other] for a in same]), abs=0.01)


def test_images_of_one_track_are_never_compared():
    together = np.array([0, 0, 1, 2, 2, 3])
    twins = circle(np.radians([0.0, 0.0, 80.0, 40.0, 40.0, 120.0]))
    # Nearest of another track: of a twin at 0 the one at 40, whose class is another.
    assert open_set(twins, LABELS, together).recall == 0.0
    assert open_set(twins, LABELS, TRACKS).recall > 0.5


def test_an_image_without_a_partner_does_not_count():
    # Class 1 has a single track: none of its images could be found by one of another.
    single = np.array([0, 1, 2, 3, 3, 3])
    assert open_set(circle(ANGLES), LABELS, single).recall == 1.0


def test_some_of_each_class_are_drawn_and_the_same_ones_each_time():
    labels = np.array([0] * 50 + [1] * 3 + [2] * 20)
    rows = np.arange(100, 173)
    first, again = (some_of_each(rows, labels, 10) for _ in range(2))
    assert np.bincount(labels[first - 100]).tolist() == [10, 3, 10]
    assert np.array_equal(first, again)
    assert np.all(np.diff(first) > 0)
    assert np.array_equal(some_of_each(rows, labels, 50), rows)
