"""The hold-out: always the same, of every class, and never a part of a group."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdops.data import dataset as data
from kdops.data.hold_out import hold_out
from kdops.data.splits import make_split


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.data())
def test_groups_stay_whole_and_classes_on_both_sides(labels, drawn):
    labels = np.array(labels)
    groups = np.array([drawn.draw(st.integers(-1, 3)) for _ in labels])
    groups = np.where(groups < 0, -1, groups * 4 + labels)
    held = hold_out(labels, groups)
    assert np.array_equal(held, hold_out(labels, groups))
    for group in np.unique(groups[groups >= 0]):
        assert len(set(held[groups == group])) == 1
    for label in np.unique(labels):
        own = labels == label
        count = len(np.unique(groups[own & (groups >= 0)])) + (own & (groups < 0)).sum()
        assert held[own].any() == (count > 1)
        assert not held[own].all()


def test_a_group_counts_for_its_most_frequent_class():
    labels = np.array([0, 0, 1] * 10 + [1] * 30)
    groups = np.array([group for group in range(10) for _ in range(3)] + [-1] * 30)
    held = hold_out(labels, groups)
    assert held[:30].sum() == 6  # two of the ten groups of class 0
    assert held[30:].sum() == 6


def test_without_groups_it_is_a_fifth_of_every_class():
    labels = np.repeat([0, 1], [50, 10])
    assert np.bincount(labels[hold_out(labels)]).tolist() == [10, 2]
    assert np.array_equal(hold_out(labels), hold_out(labels, np.full(60, -1)))


@pytest.mark.parametrize(
    ("mode", "digest"),
    [("disjoint", "d4f9a92c69455c32"), ("shared", "6efec9a508b32a0c"), ("fresh", "8868875fd51a49e9")],
)
def test_data_and_splits_of_digits_stay_what_they_were(mode, digest):
    # Every model of digits that is stored anywhere is found again by these.
    digits = data.load("digits")
    assert digits.digest.startswith("10171de9a88a8c28")
    assert make_split(digits, mode, 0).digest.startswith(digest)
