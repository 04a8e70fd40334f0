"""Wilson's interval of a share."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from kdops.verdicts.intervals import wilson_interval

law = settings(max_examples=80, deadline=None)
counts = st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@law
@given(counts, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_it_is_scipys(count, level):
    right, images = count
    wanted = binomtest(right, images).proportion_ci(level, method="wilson")
    assert wilson_interval(right / images, images, level) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


@law
@given(counts)
def test_it_holds_the_share_and_mirrors(count):
    right, images = count
    low, high = wilson_interval(right / images, images)
    assert 0 <= low <= right / images <= high <= 1
    other = wilson_interval((images - right) / images, images)
    assert (1 - other[1], 1 - other[0]) == pytest.approx((low, high), abs=1e-9)


def test_none_and_all_are_bounds_of_their_own():
    for images in range(1, 300):
        assert (wilson_interval(0.0, images)[0], wilson_interval(1.0, images)[1]) == (0.0, 1.0)


def test_it_covers_what_it_promises():
    for share in (0.7, 0.9, 0.97):
        images, covered = 359, 0.0
        for right in range(images + 1):
            low, high = wilson_interval(right / images, images)
            if low <= share <= high:
                covered += math.comb(images, right) * share**right * (1 - share) ** (images - right)
        assert 0.93 < covered < 0.975


@pytest.mark.parametrize("given", [(-0.1, 5), (1.1, 5), (0.5, 0), (0.5, 5, 0), (0.5, 5, 1), (math.nan, 5)])
def test_nonsense_is_refused(given):
    with pytest.raises(ValueError, match="no interval"):
        wilson_interval(*given)
