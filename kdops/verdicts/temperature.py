"""Does the temperature matter? A straight line over T in each replicate, its change tested over the replicates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from kdops.verdicts.claims import DECIMALS, Claim, ClaimSpec, check_accuracies
from kdops.verdicts.phrases import percent
from kdops.verdicts.statistics import Equivalence, equivalence

FEWEST_TEMPERATURES = 3
"""The fewest temperatures that a statement about T may rest on: through two, a line fits whatever happens between."""

MATTERS = ("does not matter", "matters")


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
    values = check_temperatures(temperatures, accuracies.shape[1])
    if len(values) < 2:
        raise ValueError("a line needs at least two temperatures")
    centered = values - values.mean()
    slopes = accuracies @ centered / (centered @ centered)
    return (slopes * np.ptp(values)).round(DECIMALS)


def temperature_claim(accuracies: ArrayLike, temperatures: Sequence[float], margin: float, *, models: str) -> Claim:
    """Return whether the temperature matters: equivalence of the change along the line to zero, within a margin.

    Args:
        accuracies: [replicates, temperatures], at least three temperatures.
        temperatures: [temperatures].
        margin: the change that counts as none, above zero.
        models: whose accuracies these are, such as ``students``.

    Returns:
        The claim, standing alone (not adjusted): ``does not matter``, ``matters`` or ``inconclusive``.

    Raises:
        ValueError: as :func:`temperature_changes`, and for fewer than three temperatures.
    """
    spec = temperature_spec(accuracies, temperatures, models)
    result = equivalence(spec.differences, margin)
    return spec.claim(result, (result.p_equivalent, result.p_different), 1)


def temperature_spec(accuracies: ArrayLike, temperatures: Sequence[float], models: str) -> ClaimSpec:
    """Return the same as a claim of a verdict, see :func:`temperature_claim`."""
    changes = temperature_changes(accuracies, temperatures)
    values = np.asarray(temperatures, dtype=float)
    if len(values) < FEWEST_TEMPERATURES:
        raise ValueError(f"whether T matters takes at least {FEWEST_TEMPERATURES} temperatures")
    means = np.asarray(accuracies, dtype=float).mean(axis=0).round(DECIMALS)
    worst, best = means.argmin(), means.argmax()

    def ends(claim: Claim) -> str:
        """Return the means at the single T, which the line does not show."""
        sentence = f"The means at the single T go from {percent(means[worst])} (T = {values[worst]:g})"
        sentence += f" to {percent(means[best])} (T = {values[best]:g})."
        if isinstance(claim.result, Equivalence) and claim.word == MATTERS[0] and np.ptp(means) > claim.result.margin:
            sentence += " They differ by more than the margin, which a straight line does not show."
        return sentence

    subject = f"{models} from T = {values.min():g} to T = {values.max():g} along a straight line fitted over T"
    return ClaimSpec("temperature", subject, changes, MATTERS, ends)
