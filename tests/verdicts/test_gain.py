"""A gain: which test decides it, what it would take, and what is logged of it."""

import math

import numpy as np
import pytest

from kdops.verdicts.gain import Gain
from kdops.verdicts.statistics import one_sided

MARGIN = 0.02


def gain_of(mean, deviation=0.02, n=4):
    noise = np.resize([-1.0, 1.0], n)
    return Gain.of(mean + deviation * noise / noise.std(ddof=1), MARGIN)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ([0.03, 0.031, 0.032], "x helps"),
        ([0.004, 0.005, 0.006], "x does not help"),
        ([0.01, 0.04, 0.02], "inconclusive"),
        ([-0.03, -0.031, -0.032], "x does not help"),
        ([0.03, 0.031], "inconclusive"),
        ([0.004, 0.005], "inconclusive"),
    ],
)
def test_less_than_the_margin_is_none_and_more_than_zero_helps(values, word):
    assert Gain.of(np.array(values), MARGIN).word("x") == word


@pytest.mark.parametrize("mean", [-0.01, 0.0, 0.004, 0.01, 0.016, 0.02, 0.03])
def test_as_many_replicates_decide_as_the_quicker_of_the_tests_that_can(mean):
    gain = gain_of(mean)
    below, above = gain.little.replicates_needed, gain.positive.replicates_needed
    assert (below, above) == (
        one_sided(mean + 0.02 * np.array([-1, 1, -1, 1]) / np.std([-1, 1, -1, 1], ddof=1), MARGIN).replicates_needed,
        one_sided(mean + 0.02 * np.array([-1, 1, -1, 1]) / np.std([-1, 1, -1, 1], ddof=1), 0.0).replicates_needed,
    )
    can = [count for count, may in ((below, mean < MARGIN), (above, mean > 0)) if may]
    assert gain.replicates_needed == min(can)


def test_where_no_test_can_decide_no_number_is_named():
    assert gain_of(0.01, deviation=5.0).replicates_needed is None
    assert "it takes more than 1000 replicates" in gain_of(0.01, deviation=5.0).outlook


def test_the_smallest_margin_is_where_the_interval_ends_and_none_is_below_zero():
    gain = gain_of(0.01)
    assert gain.smallest_margin == gain.little.difference.high > 0.01
    assert gain_of(-0.05, deviation=0.001).smallest_margin == 0.0
    assert math.isnan(Gain.of(np.array([0.01]), MARGIN).smallest_margin)


def test_the_outlook_is_one_sentence_on_replicates_and_one_on_margins():
    gain = gain_of(0.01)
    high = math.ceil(1e4 * gain.little.difference.high) / 100
    assert gain.outlook == (
        f"If the mean and the spread stay as seen, it takes about {gain.replicates_needed} replicates. By the interval "
        f"seen it does not help with any margin above {high:.2f} points."
    )
    two = gain_of(0.01, n=2)
    high = math.ceil(1e4 * two.little.difference.high) / 100
    assert two.outlook.endswith(f"does not help with any margin above {high:.2f} points.")
    one = Gain.of(np.array([0.01]), MARGIN).outlook
    assert one.startswith("A decision takes at least 3 replicates; one does not show the spread")


def test_what_is_logged_is_of_the_tests_it_is_named_for():
    gain = gain_of(0.01)
    told = gain.statistics((0.3, 0.4))
    difference = gain.little.difference
    assert told == {
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "p_helps": gain.positive.p_above,
        "p_helps_holm": 0.4,
        "p_no_help": gain.little.p_below,
        "p_no_help_holm": 0.3,
        "replicates": 4,
        "replicates_needed": gain.replicates_needed,
        "smallest_margin": gain.smallest_margin,
    }


@pytest.mark.parametrize("margin", [0.0, -0.01, math.inf, math.nan])
def test_a_margin_is_a_finite_number_above_zero(margin):
    with pytest.raises(ValueError, match=f"margin must be a finite number above 0, not {margin}"):
        Gain.of(np.zeros(3), margin)
