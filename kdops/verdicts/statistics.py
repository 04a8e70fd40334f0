"""Tests over replicates: equivalence, one side of a threshold, and Holm's adjustment.

The unit is the replicate, a whole chain trained again: each function takes *one number a replicate*. The
temperatures of one replicate share a teacher, a middle and a split, so they are averaged before they come
here; testing over them would be pseudo-replication. Every figure keeps the unit of its input (accuracies
as fractions in this package).
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kdops.verdicts.intervals import Interval, checked_values, mean_and_error, mean_interval

LEVEL = 0.05
"""Level of each one-sided test; intervals are at 90 % accordingly."""

FEWEST_REPLICATES = 3
"""The fewest replicates that a decision may rest on; with two, the spread itself is hardly known."""

MOST_REPLICATES = 1000
"""Beyond this many, ``replicates_needed`` is None: more replicates than a study can train."""

POWER = 0.8
"""The chance of a decision that ``replicates_needed`` asks for."""

NODES = 256
"""Of the quadrature of that chance."""


@dataclass(frozen=True)
class Equivalence:
    """The result of two one-sided tests of a mean difference.

    ``equivalent`` and ``different`` are never both true; where neither is, the data do not decide.

    Attributes:
        difference: mean difference and its interval at 90 %.
        margin: differences strictly within (-margin, margin) count as none.
        p_equivalent: p-value against "not within the margin", the larger one of the two tests.
        p_different: p-value against "within the margin", one-sided at the nearer margin.
        equivalent: the whole interval lies strictly inside the margin.
        different: the whole interval lies strictly above margin or strictly below -margin.
        n: how many replicates.
        replicates_needed: fewest replicates, at least three, that decide with 80 % chance if the observed
            mean and standard deviation are the true ones; a plan, and with few replicates a rough one. None
            when the spread is unknown (n < 2), for more than 1000, and for a mean exactly on the margin.
        smallest_margin: these data pass as equivalent with any margin above this one; nan for n < 2. It
            describes the data; a margin chosen after looking at it tests nothing.
    """

    difference: Interval
    margin: float
    p_equivalent: float
    p_different: float
    equivalent: bool
    different: bool
    n: int
    replicates_needed: int | None
    smallest_margin: float


@dataclass(frozen=True)
class OneSided:
    """Whether a mean difference lies above a threshold.

    Attributes:
        difference: mean difference and its interval at 90 %; one of its bounds is each test.
        threshold: the value to exceed: -margin for non-inferiority, 0 for superiority, or another one named before.
        p_above: p-value against "the mean is at most the threshold".
        p_below: p-value against "the mean is at least the threshold".
        above: the whole interval lies strictly above the threshold: the claim holds.
        below: the whole interval lies strictly below the threshold: the claim is refuted.
        n: how many replicates.
        replicates_needed: as in :class:`Equivalence`.
    """

    difference: Interval
    threshold: float
    p_above: float
    p_below: float
    above: bool
    below: bool
    n: int
    replicates_needed: int | None


def check_margin(margin: float) -> float:
    """Return the largest difference that counts as none. Raises ValueError if it is not finite, or not above zero."""
    if not 0 < margin < math.inf:
        raise ValueError(f"margin must be a finite number above 0, not {margin}")
    return float(margin)


def equivalence(differences: ArrayLike, margin: float) -> Equivalence:
    """Test by two one-sided t tests (Schuirmann 1987) whether a mean difference is within a margin.

    At a true difference of exactly the margin, "equivalent" is concluded at most 5 % of the time, and "different" 5.0 %
    as long as the standard deviation is at most the margin. Beyond, both of the interval's tails may err: for n = 3 its
    rate is 5.1 % at twice the margin and 6.5 % at five times, for n = 10 5.0 % and 5.2 %, and 10 % in the limit.
    Differences that are all alike leave no error to estimate: their mean is taken as known, at no level.

    Args:
        differences: [n], one difference a replicate.
        margin: the largest difference that counts as none, above zero, in the unit of the differences.

    Raises:
        ValueError: for no differences, another shape, differences that are not finite, or a margin out of range.
    """
    differences, margin = checked_values(differences), check_margin(margin)
    interval = mean_interval(differences, 1 - 2 * LEVEL)
    return Equivalence(
        difference=interval,
        margin=margin,
        p_equivalent=max(_p_above(differences, -margin), _p_below(differences, margin)),
        p_different=min(_p_above(differences, margin), _p_below(differences, -margin)),
        equivalent=-margin < interval.low and interval.high < margin,
        different=interval.low > margin or interval.high < -margin,
        n=interval.n,
        replicates_needed=_replicates_needed(differences, (-margin, margin)),
        smallest_margin=max(abs(interval.low), abs(interval.high)),
    )


def one_sided(differences: ArrayLike, threshold: float) -> OneSided:
    """Test by one-sided t tests on which side of a threshold a mean difference lies.

    Above zero it is superiority, above ``-margin`` non-inferiority. At a true difference of exactly the threshold each
    side is concluded at most 5 % of the time.

    Args:
        differences: [n], one difference a replicate, the candidate minus the reference.
        threshold: the value to lie above or below, in the unit of the differences.

    Raises:
        ValueError: for no differences, another shape, or what is not finite.
    """
    differences = checked_values(differences)
    if not math.isfinite(threshold):
        raise ValueError(f"threshold must be a finite number, not {threshold}")
    interval = mean_interval(differences, 1 - 2 * LEVEL)
    return OneSided(
        difference=interval,
        threshold=float(threshold),
        p_above=_p_above(differences, threshold),
        p_below=_p_below(differences, threshold),
        above=interval.low > threshold,
        below=interval.high < threshold,
        n=interval.n,
        replicates_needed=_replicates_needed(differences, (threshold,)),
    )


def holm(p_values: ArrayLike) -> np.ndarray:
    """Adjust the p-values of several claims at once (Holm 1979), family-wise and without independence.

    Args:
        p_values: [claims], each in [0, 1], or nan for a claim that could not be tested.

    Returns:
        [claims], the adjusted p-values; nan stays nan and does not count as a claim.

    Raises:
        ValueError: for another shape or a value outside [0, 1].
    """
    adjusted = np.array(p_values, dtype=float)
    tested = ~np.isnan(adjusted)
    if adjusted.ndim != 1 or not np.all((adjusted[tested] >= 0) & (adjusted[tested] <= 1)):
        raise ValueError(f"p-values must be one row of numbers from 0 to 1, not {p_values!r}")
    count = int(tested.sum())
    # Written here instead of with statsmodels, which takes half a second to import and collects garbage in every call.
    order = np.argsort(adjusted[tested])
    steps = np.maximum.accumulate(adjusted[tested][order] * np.arange(count, 0, -1))
    by_size = np.empty(count)
    by_size[order] = np.minimum(steps, 1)
    adjusted[tested] = by_size
    return adjusted


def _p_above(values: np.ndarray, threshold: float) -> float:
    """Return the p-value against "the mean is at most the threshold"; nan for one value."""
    from scipy.special import stdtr

    mean, error = (float(x) for x in mean_and_error(values))
    if error == 0:  # no spread: the mean is taken as known, and on the threshold it is not above it
        return 0.0 if mean > threshold else 1.0
    return float(stdtr(max(len(values) - 1, 1), (threshold - mean) / error))


def _p_below(values: np.ndarray, threshold: float) -> float:
    return _p_above(-values, -threshold)


def _replicates_needed(values: np.ndarray, thresholds: Sequence[float]) -> int | None:
    """Find the fewest replicates whose interval is likely to lie between the thresholds around the mean."""
    if len(values) < 2:
        return None
    mean, error = (float(x) for x in mean_and_error(values))
    if mean in thresholds:
        return None
    cuts = (-math.inf, *thresholds, math.inf)
    above = bisect.bisect(cuts, mean)
    deviation = error * math.sqrt(len(values))
    if deviation == 0:
        return FEWEST_REPLICATES
    low, high = ((cut - mean) / deviation for cut in cuts[above - 1 : above + 1])
    counts = range(FEWEST_REPLICATES, MOST_REPLICATES + 1)
    found = bisect.bisect_left(counts, POWER, key=lambda n: _power(n, low, high))
    return counts[found] if found < len(counts) else None


def _power(n: int, low: float, high: float) -> float:
    """Return the chance that the interval of ``n`` standard normal values lies inside (low, high).

    Exact up to the quadrature: given the sample's standard deviation s, the mean is normal and independent
    of it, and must fall between low + t s / sqrt(n) and high - t s / sqrt(n); s is averaged over quantiles
    of its chi distribution. (The usual difference of two noncentral t tails is only a lower bound for two
    finite ends, and a poor one for three replicates.)
    """
    from scipy.special import gammaincinv, ndtr, stdtrit

    freedom = n - 1
    quantiles = (np.arange(NODES) + 0.5) / NODES
    s = np.sqrt(2 * gammaincinv(freedom / 2, quantiles) / freedom)
    root, reach = math.sqrt(n), stdtrit(freedom, 1 - LEVEL) * s
    return float(np.maximum(ndtr(high * root - reach) - ndtr(low * root + reach), 0).mean())
