"""What verdicts are made of: claims, and the checks, adjustments and phrases that they share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kdops.utils.text import capitalized
from kdops.verdicts.statistics import FEWEST_REPLICATES, MOST_REPLICATES, POWER, Equivalence, Interval, OneSided, holm

__all__ = [
    "DECIMALS",
    "LEVEL",
    "ONE_REPLICATE",
    "Claim",
    "Verdict",
    "adjust",
    "check_accuracies",
    "check_select_on",
    "equivalence_statistics",
    "finite",
    "margin_phrase",
    "needs_at_least",
    "one_sided_statistics",
    "outlook",
    "percent",
    "points",
    "replicate_means",
    "rounded_up",
    "secondary_claim",
    "seen",
]

LEVEL = 0.05
"""Level of each one-sided test; intervals are at 90 % accordingly."""

DECIMALS = 12
"""Accuracies are ratios of counts: what is left beyond this many decimals is rounding noise. Without it a
difference of exactly the margin would be decided by the last bit."""

ONE_REPLICATE = "one does not show the spread among them, and so neither how many would decide."


@dataclass(frozen=True)
class Claim:
    """One statement that was tested.

    Attributes:
        name: the prefix of its statistics, such as ``worst_middle``.
        word: the answer.
        sentence: the answer with its numbers, in percentage points.
        result: the test, in fractions; where the claim rests on several, the one that decides or holds it open.
        parts: the claims it is made of, each with its own test, where there are several.
    """

    name: str
    word: str
    sentence: str
    result: Equivalence | OneSided
    parts: tuple[Claim, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The answer about a property.

    Attributes:
        word: the answer of the primary claim.
        sentence: the sentence of the primary claim.
        statistics: flat names to finite numbers (accuracies as fractions), ready to be logged as metrics.
        claims: the primary claim, then the others.
    """

    word: str
    sentence: str
    statistics: dict[str, float]
    claims: tuple[Claim, ...]


def check_accuracies(
    name: str,
    values: ArrayLike,
    shape: tuple[int, ...] | None = None,
    axes: tuple[str, ...] = ("replicates", "temperatures"),
) -> np.ndarray:
    """Return test accuracies as an array, or refuse them.

    Args:
        name: what the message calls them.
        values: the accuracies.
        shape: the shape they must have; None means any along ``axes`` that is not empty.
        axes: the names of the axes where no shape is given.

    Raises:
        ValueError: for another shape, or values that are not finite or not in [0, 1].
    """
    values = np.asarray(values, dtype=float)
    if shape is None and (values.ndim != len(axes) or not values.size):
        raise ValueError(f"{name} must be [{', '.join(axes)}] and not empty, not {list(values.shape)}")
    if shape is not None and values.shape != shape:
        raise ValueError(f"{name} must have the shape {list(shape)}, not {list(values.shape)}")
    if not ((values >= 0) & (values <= 1)).all():  # nan fails both
        raise ValueError(f"{name} must hold accuracies from 0 to 1, all of them finite")
    return values


def check_select_on(select_on: str) -> None:
    """Refuse what is not one of the sets that models are chosen on."""
    if select_on not in ("validation", "test"):
        raise ValueError(f"select_on must be validation or test, not {select_on!r}")


def replicate_means(values: np.ndarray) -> np.ndarray:
    """[replicates, temperatures] -> [replicates]: the replicate is the unit, not the temperature."""
    return values.mean(axis=1).round(DECIMALS)


def adjust(p_values: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Adjust the p-values of the claims of one verdict by Holm's method.

    "Equal" and "different" are two families, each adjusted by itself, so that each kind of false statement
    is made with at most 5 % in the whole family.

    Args:
        p_values: by claim, the p-values of the one kind and of the other; nan where untested.
    """
    equal = holm([p for p, _ in p_values.values()])
    different = holm([p for _, p in p_values.values()])
    return {name: (float(e), float(d)) for name, e, d in zip(p_values, equal, different, strict=True)}


def secondary_claim(
    name: str,
    subject: str,
    result: Equivalence,
    adjusted: tuple[float, float],
    claims: int,
    words: tuple[str, str] = ("equal", "different"),
) -> Claim:
    """Word a claim of equivalence that does not decide the verdict.

    Args:
        name: the claim's name.
        subject: what was compared with what.
        result: its test.
        adjusted: its p-values after :func:`adjust`; below 5 % they decide.
        claims: how many claims were adjusted together.
        words: what "equivalent" and "different" are called.
    """
    word = "inconclusive"
    if result.n >= FEWEST_REPLICATES:
        word = words[0] if adjusted[0] < LEVEL else words[1] if adjusted[1] < LEVEL else word
    sentence = (
        f"{word.capitalize()}: {subject}, {seen(result.difference)}; the margin is {margin_phrase(result.margin)}."
    )
    if word == "inconclusive":
        if result.n >= FEWEST_REPLICATES and (result.equivalent or result.different):
            place = "inside" if result.equivalent else "outside"
            open_still = f"Holm's adjustment for {claims} claims leaves it open"
            sentence += f" The interval lies {place} the margin, but {open_still}."
        else:
            sentence += " " + outlook(result)
    return Claim(name, word, sentence, result)


def equivalence_statistics(name: str, result: Equivalence, adjusted: tuple[float, float]) -> dict[str, float]:
    """Return the flat statistics of a test of equivalence, without what is unknown."""
    return finite(
        {
            f"{name}_difference": result.difference.mean,
            f"{name}_low": result.difference.low,
            f"{name}_high": result.difference.high,
            f"{name}_p_equivalent": result.p_equivalent,
            f"{name}_p_holm": adjusted[0],
            f"{name}_p_different": result.p_different,
            f"{name}_p_different_holm": adjusted[1],
            f"{name}_replicates": result.n,
            f"{name}_replicates_needed": result.replicates_needed,
            f"{name}_smallest_margin": result.smallest_margin,
        }
    )


def one_sided_statistics(name: str, result: OneSided) -> dict[str, float]:
    """Return the flat statistics of a one-sided test, without what is unknown."""
    return finite(
        {
            f"{name}_difference": result.difference.mean,
            f"{name}_low": result.difference.low,
            f"{name}_high": result.difference.high,
            f"{name}_p_above": result.p_above,
            f"{name}_p_below": result.p_below,
            f"{name}_replicates": result.n,
            f"{name}_replicates_needed": result.replicates_needed,
        }
    )


def finite(values: Mapping[str, float | None]) -> dict[str, float]:
    """Keep what is known, as floats: no None, no nan, nothing infinite."""
    known = {name: float(value) for name, value in values.items() if value is not None}
    return {name: value for name, value in known.items() if math.isfinite(value)}


def seen(difference: Interval) -> str:
    """Return a difference with its interval and its number of replicates."""
    level = f"{100 * difference.level:.0f} % interval"
    interval = f"{level} {points(difference.low)} to {points(difference.high)}, " if difference.n > 1 else ""
    replicates = "replicate" if difference.n == 1 else "replicates"
    return f"a difference of {points(difference.mean)} percentage points ({interval}n = {difference.n} {replicates})"


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


def needs_at_least(n: int) -> str:
    """Begin an outlook: with too few replicates, say how many a decision takes at all."""
    return f"A decision takes at least {FEWEST_REPLICATES} replicates; " if n < FEWEST_REPLICATES else ""


def points(fraction: float) -> str:
    """Write a difference in percentage points, signed."""
    return f"{round(100 * fraction, 2) + 0.0:+.2f}"  # adding zero turns -0.0 into 0.0


def rounded_up(margin: float) -> str:
    """Write a smallest margin in points, rounded up so that the margin in print does pass."""
    return f"{math.ceil(margin * 1e4) / 1e2:.2f}"


def percent(accuracies: ArrayLike) -> str:
    """Write the mean of accuracies in percent."""
    return f"{100 * np.mean(accuracies):.2f} %"


def margin_phrase(margin: float) -> str:
    """Write a margin in percentage points."""
    return f"{100 * margin:g} percentage points"
