"""Whether a gain counts: the tests of one gain a replicate against a margin and against zero, and their words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kdops.verdicts.claims import means_of
from kdops.verdicts.phrases import margin_phrase, outlook_of_several, rounded_up
from kdops.verdicts.statistics import FEWEST_REPLICATES, OneSided, check_margin, one_sided

ENDINGS = {
    "helps": ", above zero; the gain is {shown} the margin of {margin}.",
    "does not help": ", below the margin of {margin}, so what gain there is counts as none; {zero}.",
    "harms": ", below zero; the margin is {margin}.",
    "inconclusive": "; the margin is {margin}. {outlook}",
}
"""How the sentence of a gain ends, by how its word does."""


@dataclass(frozen=True)
class Gain:
    """Whether a gain counts: below the margin it counts as none, and it must be above zero.

    Attributes:
        little: the test against the margin.
        positive: the test against zero.
    """

    little: OneSided
    positive: OneSided

    @classmethod
    def of(cls, gain: np.ndarray, margin: float) -> Gain:
        """Return the tests of one gain a replicate, ``[replicates]``.

        Raises:
            ValueError: for a margin that is not a finite number above zero.
        """
        return cls(one_sided(gain, check_margin(margin)), one_sided(gain, 0.0))

    def word(self, what: str) -> str:
        """Return ``WHAT helps``, ``WHAT does not help`` or ``inconclusive``; three replicates decide at the least."""
        if self.little.n < FEWEST_REPLICATES or not (self.little.below or self.positive.above):
            return "inconclusive"
        return f"{what} does not help" if self.little.below else f"{what} helps"

    @property
    def replicates_needed(self) -> int | None:
        """How many replicates decide, if the mean and the spread are as seen: either test may."""
        needed = [self.little.replicates_needed] if self.little.difference.mean < self.little.threshold else []
        needed += [self.positive.replicates_needed] if self.positive.difference.mean > self.positive.threshold else []
        return min((count for count in needed if count is not None), default=None)

    @property
    def smallest_margin(self) -> float:
        """The interval seen is no help by any margin above this one; nan for one replicate."""
        high = self.little.difference.high
        return max(0.0, high) if high == high else math.nan  # nan stays unknown

    @property
    def outlook(self) -> str:
        """What would decide the gain where it is open, in words."""
        smallest = rounded_up(self.smallest_margin) if self.little.n > 1 else ""
        ending = f"By the interval seen it does not help with any margin above {smallest} points."
        return outlook_of_several(self.little.n, self.replicates_needed, "the mean and the spread", ending)

    def ending(self, word: str, zero: str) -> str:
        """Return how the sentence of a gain ends; ``zero`` holds where it lies of one that is below the margin."""
        ending = next(text for end, text in ENDINGS.items() if word.endswith(end))
        shown = "above" if self.little.above else "not shown to be above"
        return ending.format(margin=margin_phrase(self.little.threshold), shown=shown, zero=zero, outlook=self.outlook)

    def statistics(self, adjusted: tuple[float, float]) -> dict[str, float | None]:
        """Return the statistics of a claim that rests on it, by the ends of their names.

        Args:
            adjusted: the p-values of "does not help" and of "helps" after :func:`kdops.verdicts.claims.adjust`.
        """
        return {
            **means_of(self.little),
            "p_helps": self.positive.p_above,
            "p_helps_holm": adjusted[1],
            "p_no_help": self.little.p_below,
            "p_no_help_holm": adjusted[0],
            "replicates": self.little.n,
            "replicates_needed": self.replicates_needed,
            "smallest_margin": self.smallest_margin,
        }
