"""Numbers in words: the phrases that the sentences of claims and findings are made of."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from kdops.utils.text import capitalized
from kdops.verdicts.intervals import Interval
from kdops.verdicts.statistics import FEWEST_REPLICATES, MOST_REPLICATES, POWER, Equivalence

ONE_REPLICATE = "one does not show the spread among them, and so neither how many would decide."


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: ``1 replicate``, ``3 replicates``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def points(fraction: float) -> str:
    """Return a difference in percentage points, signed."""
    return f"{round(100 * fraction, 2) + 0.0:+.2f}"  # adding zero turns -0.0 into 0.0


def percent(accuracies: ArrayLike) -> str:
    """Return the mean of accuracies in percent."""
    return f"{100 * np.mean(np.asarray(accuracies)):.2f} %"


def margin_phrase(margin: float) -> str:
    """Return a margin in percentage points."""
    return f"{100 * margin:g} percentage points"


def rounded_up(margin: float) -> str:
    """Return a smallest margin in points, rounded up so that the margin in print does pass."""
    return f"{math.ceil(margin * 1e4) / 1e2:.2f}"


def flattered(select_on: str, what: str) -> str:
    """Return a sentence, after a blank, about what a choice on the test set flatters; empty for validation.

    Raises:
        ValueError: for another set than ``validation`` or ``test``.
    """
    if select_on not in ("validation", "test"):
        raise ValueError(f"select_on must be validation or test, not {select_on!r}")
    return f" Selection used the test set, which flatters {what}." if select_on == "test" else ""


def seen(difference: Interval, unit: str = "percentage points") -> str:
    """Return a difference with its interval and its number of replicates."""
    level = f"{100 * difference.level:.0f} % interval"
    interval = f"{level} {points(difference.low)} to {points(difference.high)}, " if difference.n > 1 else ""
    return f"a difference of {points(difference.mean)} {unit} ({interval}n = {counted(difference.n, 'replicate')})"


def needs_at_least(n: int) -> str:
    """Return the beginning of an outlook: with too few replicates, how many a decision takes at all."""
    return f"A decision takes at least {FEWEST_REPLICATES} replicates; " if n < FEWEST_REPLICATES else ""


def outlook(result: Equivalence) -> str:
    """Return what would decide an open claim of equivalence: how many replicates, or which margin."""
    start = needs_at_least(result.n)
    if result.n < 2:
        return f"{start}{ONE_REPLICATE}"
    away = abs(result.difference.mean)
    if result.replicates_needed is not None:
        side = "inside" if away < result.margin else "outside"
        # On few replicates the interval may hold the margin itself: then even the side is a guess.
        low, high = result.difference.low, result.difference.high
        open_side = any(low < edge < high for edge in (-result.margin, result.margin))
        start += "the interval holds the margin itself, so the side is open; " if open_side else ""
        start += f"if the mean and the spread stay as seen, {result.replicates_needed} would put the interval "
        start += f"{side} the margin with {100 * POWER:.0f} % chance. "
    elif away == result.margin:
        start += "the difference seen is the margin itself, so no number of replicates can be named. "
    else:
        start += f"if the mean and the spread stay as seen, it takes more than {MOST_REPLICATES} replicates. "
    smallest = rounded_up(result.smallest_margin)
    return f"{capitalized(start)}The interval seen lies inside any margin above {smallest} points."


def outlook_of_several(n: int, needed: int | None, stays: str, ending: str, on_the_bound: bool = False) -> str:
    """Return what would decide an open claim that rests on two one-sided tests.

    Args:
        n: how many replicates there are.
        needed: how many would decide; None for more than 1000.
        stays: what must stay as seen for that.
        ending: what the interval seen shows of margins; it ends the sentence.
        on_the_bound: whether a difference seen is the very bound that it is tested against.
    """
    start = needs_at_least(n)
    if n < 2:
        return f"{start}{ONE_REPLICATE}"
    if on_the_bound:
        start += "a difference seen is the very bound it is held against, so no number of replicates can be named. "
    else:
        count = f"more than {MOST_REPLICATES}" if needed is None else f"about {needed}"
        start += f"if {stays} stay as seen, it takes {count} replicates. "
    return f"{capitalized(start)}{ending}"
