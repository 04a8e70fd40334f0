"""What a paper states, as a value, and how a statement becomes a finding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from numpy.typing import ArrayLike

from kdops.verdicts.claims import Claim
from kdops.verdicts.findings import UNITS, Finding, claim_finding, difference_finding, number_finding
from kdops.verdicts.intervals import Interval

__all__ = ["Statement"]


@dataclass(frozen=True)
class Statement:
    """One statement of a paper.

    Attributes:
        what: what was looked at.
        words: what the paper says of it, in our words with its numbers.
        source: the section or the figure that says so.
        test: when it counts as replicated.
        published: the accuracies that the paper gives, as fractions: a single one, or the lowest and the highest of a
            range; empty for a statement in words alone.
        interpreted: what had to be decided, since the paper does not say; empty for nothing.
        from_memory: the published numbers were not looked up in the paper yet.
        unit: of what is measured, one of :data:`kdops.verdicts.findings.UNITS`.
    """

    what: str
    words: str
    source: str
    test: str
    published: tuple[float, ...] = ()
    interpreted: str = ""
    from_memory: bool = False
    unit: str = "difference"

    def __post_init__(self) -> None:
        """Refuse a statement without words, source or test, and numbers that are none.

        Raises:
            ValueError: says what is wrong.
        """
        if not all((self.what, self.words, self.source, self.test)):
            raise ValueError(f"a statement needs what, words, source and test: {self}")
        if len(self.published) > 2 or not all(0 <= number <= 1 for number in self.published):
            raise ValueError(f"published must be at most two fractions from 0 to 1, not {self.published}")
        if self.unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(UNITS)}, not {self.unit!r}")

    def number(self, values: ArrayLike, sentence: str, *, margin: float, same_data: bool) -> Finding:
        """Compare accuracies, ``[replicates]``, with the published ones; see :func:`number_finding`."""
        ends = self.published[0], self.published[-1]
        return number_finding(self.what, self.words, ends, values, sentence, margin=margin, same_data=same_data)

    def claim(self, claim: Claim, answers: Mapping[str, str], sentence: str = "") -> Finding:
        """Answer with a claim that was tested already; see :func:`claim_finding`."""
        return claim_finding(self.what, self.words, claim, answers, sentence=sentence, unit=self.unit)

    def difference(
        self,
        differences: ArrayLike,
        subject: str,
        *,
        yes: Callable[[Interval], bool],
        no: Callable[[Interval], bool],
    ) -> Finding:
        """Answer by where the interval of a difference lies; see :func:`difference_finding`."""
        return difference_finding(self.what, self.words, differences, subject, yes=yes, no=no, unit=self.unit)

    def answered(self, answer: str, sentence: str, measured: Interval | None = None) -> Finding:
        """Answer with a test of one's own."""
        return Finding(self.what, self.words, measured, self.unit, answer, sentence)

    def not_measured(self, reason: str) -> Finding:
        """Leave the statement open, and say why nothing was measured."""
        return self.answered("open", f"Not measured: {reason}")
