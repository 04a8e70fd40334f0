"""Does the temperature matter? A straight line over T in each replicate, its change tested over the replicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from kdops.verdicts.claims import DECIMALS, LEVEL, Claim, check_accuracies, percent, secondary_claim
from kdops.verdicts.statistics import Equivalence, equivalence

__all__ = [
    "FEWEST_TEMPERATURES",
    "check_temperatures",
    "temperature_changes",
    "temperature_claim",
    "word_temperature_claim",
]

FEWEST_TEMPERATURES = 3
"""The fewest temperatures that a statement about T may rest on: through two, a line fits whatever happens between."""


def check_temperatures(temperatures: Sequence[float], count: int) -> np.ndarray:
    """Return temperatures as an array.

    Raises:
        ValueError: for another number of them than ``count``, one twice, or one that is not finite and above zero.
    """
    values = np.asarray(temperatures, dtype=float)
    if values.shape != (count,):
        raise ValueError(f"{count} temperatures are needed, one a column; the shape given is {list(values.shape)}")
    if not (np.isfinite(values) & (values > 0)).all() or len(np.unique(values)) != count:
        raise ValueError(f"temperatures must be different numbers above 0, not {values.tolist()}")
    return values


def temperature_changes(accuracies: ArrayLike, temperatures: Sequence[float]) -> np.ndarray:
    """Return the change of accuracy from the lowest to the highest temperature along the least-squares line.

    The line uses every temperature, where the plain difference between the two ends would use two. What
    rises and falls again has no line: name the means over temperatures beside it.

    Args:
        accuracies: [replicates, temperatures].
        temperatures: [temperatures], at least two, in any order.

    Returns:
        [replicates], in the unit of the accuracies.

    Raises:
        ValueError: for shapes that do not fit, or fewer than two temperatures.
    """
    accuracies = check_accuracies("accuracies", accuracies)
    temperatures = check_temperatures(temperatures, accuracies.shape[1])
    if len(temperatures) < 2:
        raise ValueError("a line needs at least two temperatures")
    centered = temperatures - temperatures.mean()
    slopes = accuracies @ centered / (centered @ centered)
    return (slopes * np.ptp(temperatures)).round(DECIMALS)


def temperature_claim(
    accuracies: ArrayLike, temperatures: Sequence[float], margin: float, *, name: str = "temperature", models: str
) -> Claim:
    """Return whether the temperature matters: equivalence of the change along the line to zero, within a margin.

    Args:
        accuracies: [replicates, temperatures], at least three temperatures.
        temperatures: [temperatures].
        margin: the change that counts as none, above zero.
        name: the claim's name.
        models: whose accuracies these are, such as ``students``.

    Returns:
        The claim, standing alone (not adjusted): ``does not matter``, ``matters`` or ``inconclusive``.

    Raises:
        ValueError: as :func:`temperature_changes`, and for fewer than three temperatures.
    """
    result = equivalence(temperature_changes(accuracies, temperatures), margin, LEVEL)
    p_values = result.p_equivalent, result.p_different
    return word_temperature_claim(name, accuracies, temperatures, result, p_values, 1, models)


def word_temperature_claim(
    name: str,
    accuracies: ArrayLike,
    temperatures: Sequence[float],
    result: Equivalence,
    adjusted: tuple[float, float],
    claims: int,
    models: str,
) -> Claim:
    """Word the claim from its test, as ``secondary_claim`` does, with the means over T beside it."""
    temperatures = np.asarray(temperatures, dtype=float)
    if len(temperatures) < FEWEST_TEMPERATURES:
        raise ValueError(f"whether T matters takes at least {FEWEST_TEMPERATURES} temperatures")
    low, high = temperatures.min(), temperatures.max()
    subject = f"{models} from T = {low:g} to T = {high:g} along a straight line fitted over T"
    claim = secondary_claim(name, subject, result, adjusted, claims, ("does not matter", "matters"))
    means = np.asarray(accuracies, dtype=float).mean(axis=0).round(DECIMALS)
    worst, best = means.argmin(), means.argmax()
    sentence = (
        f"{claim.sentence} The means at the single T go from {percent(means[worst])} (T = {temperatures[worst]:g})"
    )
    sentence += f" to {percent(means[best])} (T = {temperatures[best]:g})."
    if claim.word == "does not matter" and np.ptp(means) > result.margin:
        sentence += " They differ by more than the margin, which a straight line does not show."
    return replace(claim, sentence=sentence)
