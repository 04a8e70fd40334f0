"""Sentences of numbers, word by word."""

import math

import pytest

from kdops.verdicts.intervals import mean_interval
from kdops.verdicts.phrases import counted, flattered, needs_at_least, outlook, outlook_of_several, percent, seen
from kdops.verdicts.statistics import equivalence

MARGIN = 0.02


def sample(mean, deviation):
    """Return three values of this mean and standard deviation."""
    return [mean - deviation, mean, mean + deviation]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            [0.01],
            "A decision takes at least 3 replicates; one does not show the spread among them, and so neither how many "
            "would decide.",
        ),
        (
            [0.0, 0.01],
            "A decision takes at least 3 replicates; the interval holds the margin itself, so the side is open; if the "
            "mean and the spread stay as seen, 4 would put the interval inside the margin with 80 % chance. The "
            "interval seen lies inside any margin above 3.66 points.",
        ),
        (
            sample(0.03, 0.01),
            "The interval holds the margin itself, so the side is open; if the mean and the spread stay as seen, 8 "
            "would put the interval outside the margin with 80 % chance. The interval seen lies inside any margin "
            "above 4.69 points.",
        ),
        (
            sample(0.02, 0.01),
            "The difference seen is the margin itself, so no number of replicates can be named. The interval seen lies "
            "inside any margin above 3.69 points.",
        ),
        (
            sample(0.0, 1.0),
            "If the mean and the spread stay as seen, it takes more than 1000 replicates. The interval seen lies "
            "inside any margin above 168.59 points.",
        ),
        (
            [-1.0, 1.0],
            "A decision takes at least 3 replicates; if the mean and the spread stay as seen, it takes more than 1000 "
            "replicates. The interval seen lies inside any margin above 631.38 points.",
        ),
        (
            sample(0.001, 0.002),
            "If the mean and the spread stay as seen, 3 would put the interval inside the margin with 80 % chance. The "
            "interval seen lies inside any margin above 0.44 points.",
        ),
    ],
)
def test_what_would_decide_an_open_equivalence(values, told):
    assert outlook(equivalence(values, MARGIN)) == told


def test_on_which_side_is_open_only_where_the_interval_holds_an_edge():
    for shift in (-1, 1):
        assert "the side is open" in outlook(equivalence(sample(shift * 0.012, 0.01), MARGIN))
        assert "the side is open" not in outlook(equivalence(sample(shift * 0.05, 0.001), MARGIN))


TOO_FEW = "A decision takes at least 3 replicates; "


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((1, 5, "it"), TOO_FEW + "one does not show the spread among them, and so neither how many would decide."),
        ((2, 5, "it"), TOO_FEW + "if it stay as seen, it takes about 5 replicates. End."),
        ((3, 5, "means"), "If means stay as seen, it takes about 5 replicates. End."),
        ((3, None, "means"), "If means stay as seen, it takes more than 1000 replicates. End."),
    ],
)
def test_what_would_decide_a_claim_of_two_tests(given, told):
    assert outlook_of_several(*given, "End.") == told


def test_a_difference_on_its_bound_names_no_number():
    told = "A difference seen is the very bound it is held against, so no number of replicates can be named. End."
    assert outlook_of_several(3, 5, "it", "End.", on_the_bound=True) == told


def test_numbers_have_their_nouns_units_and_intervals():
    assert [counted(n, "net") for n in (0, 1, 2)] == ["0 nets", "1 net", "2 nets"]
    assert [needs_at_least(n) for n in (2, 3)] == ["A decision takes at least 3 replicates; ", ""]
    assert percent([0.5, 0.75]) == "62.50 %"
    interval = mean_interval(sample(0.01, 0.01), 0.9)
    low, high = (f"{100 * bound:+.2f}" for bound in (interval.low, interval.high))
    told = f"a difference of +1.00 percentage points (90 % interval {low} to {high}, n = 3 replicates)"
    assert seen(interval) == told


def test_what_a_choice_on_test_flatters_is_said():
    assert flattered("validation", "it") == ""
    assert flattered("test", "the best") == " Selection used the test set, which flatters the best."
    for other in ("Test", "", "both"):
        with pytest.raises(ValueError, match=f"select_on must be validation or test, not '{other}'"):
            flattered(other, "it")


def test_what_needs_no_interval_is_no_number():
    assert math.isnan(mean_interval([0.01], 0.9).low)
    assert "interval" not in seen(mean_interval([0.01], 0.9))
