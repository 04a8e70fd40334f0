import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from kdops.verdicts.intervals import bounds, interval_at, mean_interval
from kdops.verdicts.statistics import _power, equivalence, holm, one_sided

# Whole ten-thousandths, as accuracies on a test set are: no two values closer than rounding noise.
values = arrays(np.int64, st.integers(1, 12), elements=st.integers(-2000, 2000)).map(lambda x: x / 10_000)
several = values.filter(lambda x: len(x) > 1)
margins = st.integers(1, 3000).map(lambda m: m / 10_000)
MARGIN = 0.02
law = settings(max_examples=50, deadline=None)  # a busy machine is no failure


@pytest.fixture
def rng():
    return np.random.default_rng(20200817)


# Agreement with scipy and statsmodels


@pytest.mark.parametrize("n", [2, 3, 5, 30])
@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_interval_is_scipys(rng, n, level):
    x = rng.normal(0.01, 0.02, n)
    interval = mean_interval(x, level)
    expected = stats.ttest_1samp(x, 0).confidence_interval(level)
    assert (interval.low, interval.high) == pytest.approx(tuple(expected))
    assert (interval.mean, interval.n, interval.level) == (pytest.approx(x.mean()), n, level)


@pytest.mark.parametrize("n", [2, 3, 5, 30])
def test_equivalence_is_statsmodels_ttost(rng, n):
    for shift in (-0.03, 0.0, 0.015):
        x = rng.normal(shift, 0.01, n)
        ours, theirs = equivalence(x, MARGIN), DescrStatsW(x)
        p, _, _ = theirs.ttost_mean(-MARGIN, MARGIN)
        assert ours.p_equivalent == pytest.approx(p)
        assert (ours.difference.low, ours.difference.high) == pytest.approx(theirs.tconfint_mean(0.1))
        beyond = [theirs.ttest_mean(MARGIN, "larger")[1], theirs.ttest_mean(-MARGIN, "smaller")[1]]
        assert ours.p_different == pytest.approx(min(beyond))
        assert ours.equivalent == (p < 0.05)
        assert ours.different == (min(beyond) < 0.05)


def test_one_sided_tests_are_scipys(rng):
    x = rng.normal(0.0, 0.02, 6)
    for threshold in (0.0, -MARGIN):
        ours = one_sided(x, threshold)
        assert ours.threshold == threshold
        assert ours.p_above == pytest.approx(stats.ttest_1samp(x, threshold, alternative="greater").pvalue)
        assert ours.p_below == pytest.approx(stats.ttest_1samp(x, threshold, alternative="less").pvalue)
        assert (ours.above, ours.below) == (ours.p_above < 0.05, ours.p_below < 0.05)


def test_holm_is_statsmodels_on_what_was_tested(rng):
    p = rng.uniform(0, 0.1, 6)
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    gaps = np.array([p[0], math.nan, p[1], math.nan])
    assert holm(gaps)[[0, 2]] == pytest.approx(multipletests(p[:2], method="holm")[1])
    assert np.isnan(holm(gaps)[[1, 3]]).all()
    assert np.isnan(holm([math.nan])).all()
    assert holm([]).shape == (0,)


@law
@given(arrays(float, st.integers(1, 8), elements=st.floats(0, 1)))
def test_holm_lies_between_raw_and_bonferroni_and_keeps_order(p):
    adjusted = holm(p)
    assert (adjusted >= p - 1e-12).all()
    assert (adjusted <= np.minimum(1, len(p) * p) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= -1e-12).all()


# Laws


@law
@given(values, st.integers(-1000, 1000).map(lambda c: c / 1000))
def test_shifting_the_data_shifts_the_interval(x, shift):
    before, after = mean_interval(x), mean_interval(x + shift)
    moved = [before.mean + shift, before.low + shift, before.high + shift]
    assert [after.mean, after.low, after.high] == pytest.approx(moved, abs=1e-9, nan_ok=True)


@law
@given(values, margins)
def test_changing_the_sign_mirrors_the_answer(x, margin):
    a, b = equivalence(x, margin), equivalence(-x, margin)
    assert (a.equivalent, a.different, a.replicates_needed) == (b.equivalent, b.different, b.replicates_needed)
    mirrored = (b.p_equivalent, b.p_different, b.smallest_margin, -b.difference.high)
    assert (a.p_equivalent, a.p_different, a.smallest_margin, a.difference.low) == pytest.approx(mirrored, nan_ok=True)


@law
@given(values, margins)
def test_never_both_equivalent_and_different(x, margin):
    result = equivalence(x, margin)
    assert not (result.equivalent and result.different)
    for one in (one_sided(x, 0.0), one_sided(x, -margin)):
        assert not (one.above and one.below)


@law
@given(several, margins, margins)
def test_a_wider_margin_favors_equivalence(x, a, b):
    narrow, wide = equivalence(x, min(a, b)), equivalence(x, max(a, b))
    assert narrow.equivalent <= wide.equivalent
    assert narrow.different >= wide.different
    assert narrow.p_equivalent >= wide.p_equivalent - 1e-12


@law
@given(several)
def test_the_smallest_margin_is_where_equivalence_begins(x):
    smallest = equivalence(x, 0.01).smallest_margin
    assert equivalence(x, smallest * (1 + 1e-9) + 1e-12).equivalent
    if smallest > 0:
        assert not equivalence(x, smallest).equivalent


@law
@given(several, margins)
def test_equivalent_is_both_noninferiorities(x, margin):
    both = one_sided(x, -margin).above and one_sided(-x, -margin).above
    assert equivalence(x, margin).equivalent == both


@law
@given(values, margins)
def test_order_of_the_replicates_does_not_matter(x, margin):
    a, b = equivalence(x, margin), equivalence(x[::-1], margin)
    assert (a.difference.low, a.p_equivalent) == pytest.approx((b.difference.low, b.p_equivalent), nan_ok=True)


@law
@given(st.integers(-500, 500).map(lambda c: c / 10_000), st.integers(2, 9))
@example(MARGIN, 3)
@example(-MARGIN, 3)
def test_no_spread_is_decided_by_the_value(c, n):
    result = equivalence([c] * n, MARGIN)
    assert (result.difference.low, result.difference.mean, result.difference.high) == (c, c, c)
    assert (result.equivalent, result.different) == (abs(c) < MARGIN, abs(c) > MARGIN)
    assert (result.p_equivalent, result.p_different) == (float(abs(c) >= MARGIN), float(abs(c) <= MARGIN))
    assert result.replicates_needed == (None if abs(c) == MARGIN else 3)
    assert one_sided([c] * n, 0.0).above == (c > 0)


@pytest.mark.filterwarnings("error")
def test_samples_without_spread_are_known_among_others():
    mean, low, high = bounds(np.array([[0.1, 0.1, 0.1], [0.1, 0.2, 0.4]]), 0.9)
    assert (mean[0], low[0], high[0]) == (0.1, 0.1, 0.1)
    assert low[1] < mean[1] < high[1]


def test_one_replicate_decides_nothing():
    interval = mean_interval([0.01])
    assert (interval.mean, interval.n) == (0.01, 1)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)
    result = equivalence([0.01], MARGIN)
    assert not result.equivalent
    assert not result.different
    assert result.replicates_needed is None
    assert np.isnan([result.p_equivalent, result.p_different]).all()
    assert math.isnan(result.smallest_margin)
    assert not one_sided([0.01], 0.0).above


@pytest.mark.parametrize("bad", [[], [[0.1]], 0.1, [0.1, math.nan], [math.inf, 0.1]])
def test_refuses_what_is_no_sample(bad):
    for test in (mean_interval, lambda x: one_sided(x, 0.0), lambda x: equivalence(x, 0.1)):
        with pytest.raises(ValueError, match=r"one value a replicate|finite"):
            test(bad)


@pytest.mark.parametrize("margin", [0.0, -0.1, math.nan, math.inf])
def test_refuses_a_margin_that_is_none(margin):
    with pytest.raises(ValueError, match="margin"):
        equivalence([0.1, 0.2], margin)


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, math.nan])
def test_refuses_a_level_out_of_range(level):
    with pytest.raises(ValueError, match="level"):
        mean_interval([0.1, 0.2], level)


@pytest.mark.parametrize("bad", [[1.1], [-0.1], [math.inf], [[0.1]]])
def test_holm_refuses_what_is_no_p_value(bad):
    with pytest.raises(ValueError, match="p-values"):
        holm(bad)


# Simulation, of `bounds`: the arithmetic under every function here, on many samples at once

SAMPLES = 100_000
MONTE_CARLO = 4 * math.sqrt(0.05 * 0.95 / SAMPLES)


def simulate(n, mean, deviation, level=0.9, seed=7):
    samples = np.random.default_rng(seed).normal(mean, deviation, (SAMPLES, n))
    _, low, high = bounds(samples, level)
    return low, high


@law
@given(st.integers(0, 2**32 - 1), st.integers(2, 10))
def test_what_is_simulated_is_what_equivalence_says(seed, n):
    samples = np.random.default_rng(seed).normal(0.015, 0.01, (5, n))
    for sample, _, low, high in zip(samples, *bounds(samples, 0.9), strict=True):
        result = equivalence(sample, MARGIN)
        assert (result.difference.low, result.difference.high) == pytest.approx((low, high))
        assert result.equivalent == (low > -MARGIN and high < MARGIN)
        assert result.different == (low > MARGIN or high < -MARGIN)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_interval_covers(n):
    low, high = simulate(n, 0.3, 0.1)
    assert np.mean((low < 0.3) & (high > 0.3)) == pytest.approx(0.9, abs=math.sqrt(2) * MONTE_CARLO)


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("deviation", [0.002, 0.01, 0.03])
def test_error_rates_at_the_margin(n, deviation):
    low, high = simulate(n, MARGIN, deviation)
    assert np.mean((low > -MARGIN) & (high < MARGIN)) <= 0.05 + MONTE_CARLO
    assert np.mean((low > MARGIN) | (high < -MARGIN)) <= 0.05 + MONTE_CARLO


@pytest.mark.parametrize(
    ("n", "margins", "rate"),
    [(3, 1, 0.050), (10, 1, 0.050), (3, 2, 0.051), (10, 2, 0.050), (3, 5, 0.065), (10, 5, 0.052), (3, 10**6, 0.1)],
)
def test_a_false_different_is_as_rare_as_its_docstring_says(n, margins, rate):
    bar, root = stats.t.ppf(0.95, n - 1), 2 * math.sqrt(n) / margins
    exact = 0.05 + stats.nct.cdf(-bar, n - 1, root)
    assert round(exact, 3) == rate
    low, high = simulate(n, MARGIN, margins * MARGIN)
    assert np.mean((low > MARGIN) | (high < -MARGIN)) == pytest.approx(exact, abs=math.sqrt(2) * MONTE_CARLO)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_a_margin_near_zero_doubles_the_rate_of_different_at_most(n):
    low, high = simulate(n, 1e-6, 0.01)
    rate = np.mean((low > 1e-6) | (high < -1e-6))
    assert 0.05 + MONTE_CARLO < rate <= 0.1 + math.sqrt(2) * MONTE_CARLO


@pytest.mark.parametrize(("n", "deviation", "power"), [(3, 0.004, 0.95), (5, 0.008, 0.95), (10, 0.012, 0.95)])
def test_finds_equivalence_that_is_there(n, deviation, power):
    low, high = simulate(n, 0.0, deviation)
    assert np.mean((low > -MARGIN) & (high < MARGIN)) > power


def sample_with(mean, deviation):
    return [mean - deviation / math.sqrt(2), mean + deviation / math.sqrt(2)]


@pytest.mark.parametrize(
    ("mean", "deviation"),
    [(0.0, 0.012), (0.005, 0.01), (0.01, 0.02), (-0.015, 0.01), (0.03, 0.01), (-0.05, 0.02)],
)
def test_replicates_needed_give_the_promised_power(mean, deviation):
    needed = equivalence(sample_with(mean, deviation), MARGIN).replicates_needed
    assert needed > 3

    def rate(n):
        samples = np.random.default_rng(n).normal(mean, deviation, (40_000, n))
        _, low, high = bounds(samples, 0.9)
        inside, outside = (low > -MARGIN) & (high < MARGIN), (low > MARGIN) | (high < -MARGIN)
        return np.mean(inside if abs(mean) < MARGIN else outside)

    tolerance = 4 * math.sqrt(0.8 * 0.2 / 40_000)
    assert rate(needed) >= 0.8 - tolerance
    assert rate(needed - 1) <= 0.8 + tolerance


@pytest.mark.parametrize(("mean", "deviation"), [(0.1, 0.05), (0.1, 0.1), (0.1, 0.2), (0.1, 0.5)])
def test_replicates_needed_of_one_sided_tests_are_those_of_the_noncentral_t(mean, deviation):
    def power(n):
        return stats.nct.sf(stats.t.ppf(0.95, n - 1), n - 1, mean / deviation * math.sqrt(n))

    needed = next(n for n in range(3, 1000) if power(n) >= 0.8)
    assert one_sided(sample_with(mean, deviation), 0.0).replicates_needed == needed
    assert _power(needed, -mean / deviation, math.inf) == pytest.approx(power(needed), abs=4e-4)


def test_replicates_needed_knows_its_limits():
    assert equivalence(sample_with(0.0, 1e-5), MARGIN).replicates_needed == 3
    assert equivalence(sample_with(0.0, 0.1), MARGIN).replicates_needed < 1000
    assert equivalence(sample_with(0.0, 0.2155), MARGIN).replicates_needed == 996
    assert equivalence(sample_with(0.0, 0.217), MARGIN).replicates_needed is None  # more than 1000
    assert equivalence(sample_with(0.0, 1.0), MARGIN).replicates_needed is None
    assert equivalence(sample_with(0.0199, 0.05), MARGIN).replicates_needed is None
    assert equivalence([-0.25, 0.75], 0.25).replicates_needed is None  # the mean is the margin
    near, far = (one_sided(sample_with(mean, 0.02), 0.0).replicates_needed for mean in (0.01, 0.05))
    assert far <= near


@law
@given(values.filter(lambda x: len(x) > 2), margins)
def test_an_open_question_needs_more_replicates_than_there_were(x, margin):
    result = equivalence(x, margin)
    if not (result.equivalent or result.different) and result.replicates_needed is not None:
        assert result.replicates_needed > result.n


# One side of a threshold, and another level


@law
@given(values, st.integers(-500, 500).map(lambda t: t / 10_000))
def test_a_threshold_is_a_shift(x, threshold):
    """Above a threshold is superiority of what is left after it."""
    result, shifted = one_sided(x, threshold), one_sided(x - threshold, 0.0)
    assert result.p_above == pytest.approx(shifted.p_above, abs=1e-6, nan_ok=True) or len(set(x)) == 1
    mirrored = one_sided(-x, -threshold)
    assert (result.above, result.below) == (mirrored.below, mirrored.above)
    assert result.p_above == pytest.approx(mirrored.p_below, nan_ok=True)


def test_refuses_a_threshold_that_is_none():
    with pytest.raises(ValueError, match="threshold"):
        one_sided([0.1, 0.2], math.nan)


@law
@given(values, st.sampled_from([0.5, 0.9, 0.95]), st.sampled_from([0.5, 0.9, 0.95]))
def test_an_interval_at_another_level_is_the_interval_of_the_data(x, level, other):
    moved, expected = interval_at(mean_interval(x, level), other), mean_interval(x, other)
    assert (moved.mean, moved.n, moved.level) == (expected.mean, expected.n, expected.level)
    assert (moved.low, moved.high) == pytest.approx((expected.low, expected.high), abs=1e-9, nan_ok=True)
    with pytest.raises(ValueError, match="level"):
        interval_at(moved, 1.0)
