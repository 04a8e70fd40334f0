import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kdops.verdicts.statistics import equivalence
from kdops.verdicts.temperature import check_temperatures, temperature_changes, temperature_claim

MARGIN = 0.02
law = settings(max_examples=50, deadline=None)
ladders = st.lists(st.integers(1, 60), min_size=3, max_size=12, unique=True).map(np.array)


def table(temperatures, slopes, seed=0, noise=0.0):
    slopes = np.asarray(slopes)
    rng = np.random.default_rng(seed)
    return 0.6 + slopes[:, None] * temperatures + noise * rng.standard_normal((len(slopes), len(temperatures)))


@law
@given(ladders, st.lists(st.floats(-0.005, 0.005), min_size=1, max_size=5))
def test_a_straight_line_changes_by_its_slope_times_the_range(temperatures, slopes):
    changes = temperature_changes(table(temperatures, slopes), temperatures)
    assert changes == pytest.approx(np.array(slopes) * np.ptp(temperatures), abs=1e-9)


@law
@given(ladders, st.integers(0, 1000))
def test_the_line_is_scipys_and_knows_no_order(temperatures, seed):
    accuracies = table(temperatures, [0.001, -0.001], seed, noise=0.01)
    changes = temperature_changes(accuracies, temperatures)
    expected = [stats.linregress(temperatures, row).slope * np.ptp(temperatures) for row in accuracies]
    assert changes == pytest.approx(expected, abs=1e-9)
    shuffled = np.random.default_rng(seed).permutation(len(temperatures))
    assert temperature_changes(accuracies[:, shuffled], temperatures[shuffled]) == pytest.approx(changes, abs=1e-9)


@pytest.mark.parametrize(
    ("change", "word"),
    [(0.0, "does not matter"), (0.005, "does not matter"), (-0.1, "matters"), (0.02, "inconclusive")],
)
def test_the_claim_is_equivalence_of_the_changes(change, word):
    temperatures = np.arange(1, 11)
    accuracies = table(temperatures, change / 9 + 1e-4 * np.array([-1, 0, 1, 0]))
    claim = temperature_claim(accuracies, temperatures, MARGIN, models="students")
    assert claim.word == word
    assert claim.result == equivalence(temperature_changes(accuracies, temperatures), MARGIN)
    assert "students from T = 1 to T = 10" in claim.sentence
    assert f"{100 * change + 0.0:+.2f} percentage points" in claim.sentence


def test_the_means_over_t_are_named():
    """A hump has no slope; the range of the means shows it."""
    spread = np.array([[-0.001], [0.0], [0.001]])
    hump = temperature_claim(np.array([0.7, 0.8, 0.7]) + spread, [1, 2, 3], MARGIN, models="students")
    flat = temperature_claim(np.array([0.7, 0.71, 0.7]) + spread, [1, 2, 3], MARGIN, models="students")
    assert hump.word == flat.word == "does not matter"
    assert "from 70.00 % (T = 1) to 80.00 % (T = 2)" in hump.sentence
    assert "differ by more than the margin" in hump.sentence
    assert "more than the margin" not in flat.sentence


def test_refuses_what_has_no_line():
    accuracies = np.full((3, 3), 0.5)
    for temperatures in ([1, 2], [1, 1, 2], [0, 1, 2], [1, 2, np.nan], [[1, 2, 3]]):
        with pytest.raises(ValueError, match="temperatures"):
            temperature_changes(accuracies, temperatures)
    with pytest.raises(ValueError, match="two temperatures"):
        temperature_changes(accuracies[:, :1], [1])
    with pytest.raises(ValueError, match="at least 3"):
        temperature_claim(accuracies[:, :2], [1, 2], MARGIN, models="students")
    assert check_temperatures([3, 1], 2).tolist() == [3.0, 1.0]
