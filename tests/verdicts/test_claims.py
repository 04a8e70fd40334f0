import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from kdops.utils.text import capitalized
from kdops.verdicts.claims import NO_VERDICT, ClaimSpec, adjust, check_accuracies, finite
from kdops.verdicts.gain import Gain
from kdops.verdicts.intervals import mean_interval
from kdops.verdicts.phrases import margin_phrase, percent, points, rounded_up, seen
from kdops.verdicts.statistics import equivalence, one_sided

law = settings(max_examples=50, deadline=None)


@law
@given(st.floats(-1, 1))
def test_points_are_signed_and_have_one_zero(fraction):
    written = points(fraction)
    assert float(written) == pytest.approx(100 * fraction, abs=0.0051)
    assert written[0] in "+-"
    assert written != "-0.00"


@law
@given(st.floats(0, 1))
def test_a_margin_in_print_is_never_below_the_margin(margin):
    assert margin <= float(rounded_up(margin)) / 100 + 1e-12 <= margin + 1e-4 + 2e-12


@law
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=5))
def test_both_families_are_adjusted_by_themselves(pairs):
    adjusted = adjust({str(n): pair for n, pair in enumerate(pairs)})
    for side in (0, 1):
        expected = multipletests([pair[side] for pair in pairs], method="holm")[1]
        assert [adjusted[str(n)][side] for n in range(len(pairs))] == pytest.approx(list(expected))


@pytest.mark.parametrize(
    ("adjusted", "word"),
    [((0.01, 1.0), "the same"), ((1.0, 0.01), "another"), ((0.05, 0.05), "inconclusive"), ((0.2, 0.2), "inconclusive")],
)
def test_adjusted_p_values_decide_the_word(adjusted, word):
    result = equivalence([0.001, -0.001, 0.0], 0.02)
    spec = ClaimSpec("name", "one against the other", np.zeros(3), ("the same", "another"))
    claim = spec.claim(result, adjusted, 4)
    assert (claim.name, claim.word, claim.result) == ("name", word, result)
    assert claim.sentence.startswith(f"{word.capitalize()}: one against the other, a difference of +0.00")
    assert ("Holm's adjustment for 4 claims leaves it open" in claim.sentence) == (word == "inconclusive")


def test_an_interval_beside_the_margin_that_holm_leaves_open_says_on_which_side():
    spec = ClaimSpec("name", "one against the other", np.zeros(3))
    for differences, side in (([0.001, -0.001, 0.0], "inside"), ([0.101, 0.1, 0.099], "outside")):
        sentence = spec.claim(equivalence(differences, 0.02), (0.2, 0.2), 4).sentence
        assert f"The interval lies {side} the margin, but Holm's adjustment for 4 claims" in sentence


def test_a_gain_is_tested_against_the_margin_and_against_zero():
    differences = np.array([0.03, 0.035, 0.04])
    gain = Gain.of(differences, 0.02)
    assert gain == Gain(one_sided(differences, 0.02), one_sided(differences, 0.0))
    assert gain.word("it") == "it helps"
    assert Gain.of(differences, 0.05).word("it") == "it does not help"  # less than the margin counts as none
    assert Gain.of(differences[:2], 0.02).word("it") == "inconclusive"
    for margin in (0, -0.1, math.inf, math.nan):
        with pytest.raises(ValueError, match="margin"):
            Gain.of(differences, margin)


def test_no_verdict_has_no_words():
    assert (NO_VERDICT.word, NO_VERDICT.sentence) == ("", "")


def test_what_is_unknown_is_left_out():
    assert finite({"a": 1, "b": None, "c": math.nan, "d": math.inf, "e": np.float64(0.5)}) == {"a": 1.0, "e": 0.5}


def test_phrases():
    assert seen(mean_interval([0.0123], 0.9)) == "a difference of +1.23 percentage points (n = 1 replicate)"
    assert "95 % interval -" in seen(mean_interval([0.01, 0.02], 0.95))
    assert percent([0.5, 0.6]) == "55.00 %"
    assert margin_phrase(0.02) == "2 percentage points"
    assert capitalized("over T = 1") == "Over T = 1"


def test_accuracies_are_finite_and_in_range():
    assert check_accuracies("a", [[0, 1]]).dtype == float
    for bad, shape in (([[1.1]], None), ([[math.nan]], None), ([0.5], None), ([[0.5]], (1, 2)), ([[]], None)):
        with pytest.raises(ValueError, match="a must"):
            check_accuracies("a", bad, shape)
