"""What a paper states, as a value, and how a statement becomes a finding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from kdops.utils.text import capitalized
from kdops.verdicts.claims import DECIMALS, Claim
from kdops.verdicts.findings import ANSWERS, LEVEL, UNITS, Finding
from kdops.verdicts.intervals import Interval, interval_at, mean_interval
from kdops.verdicts.phrases import seen
from kdops.verdicts.statistics import FEWEST_REPLICATES

NO_VALUE = "a replicate has no value, such as the distance of images where none is misled."


@dataclass(frozen=True)
class Statement:
    """One statement of a paper.

    Attributes:
        what: what was looked at.
        words: the paper's statement, in our words with its numbers.
        source: the section or the figure that states it.
        test: when it counts as replicated.
        published: the accuracies that the paper reports, as fractions: a single one, or the lowest and the highest of a
            range; empty for a statement in words alone.
        answers: of a statement that is a claim of a verdict, by the claim's word ``yes`` or ``no``.
        interpreted: what had to be decided, since the paper leaves it open; empty for nothing.
        from_memory: the published numbers were not looked up in the paper yet.
        unit: of what is measured, one of :data:`kdops.verdicts.findings.UNITS`.
    """

    what: str
    words: str
    source: str
    test: str = "the difference is above zero"
    published: tuple[float, ...] = ()
    answers: Mapping[str, str] = field(default_factory=dict)
    interpreted: str = ""
    from_memory: bool = False
    unit: str = "difference"

    def __post_init__(self) -> None:
        """Refuse a statement without words, source or test, and numbers that are none.

        Raises:
            ValueError: a text is empty, or a published number is not a fraction.
        """
        if not all((self.what, self.words, self.source, self.test)):
            raise ValueError(f"a statement needs what, words, source and test: {self}")
        if len(self.published) > 2 or not all(0 <= number <= 1 for number in self.published):
            raise ValueError(f"published must be at most two fractions from 0 to 1, not {self.published}")
        if not set(self.answers.values()) <= set(ANSWERS):
            raise ValueError(f"answers must be among {', '.join(ANSWERS)}, not {dict(self.answers)}")
        if self.unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(UNITS)}, not {self.unit!r}")

    @property
    def shown(self) -> str:
        """The paper's statement as the report has it: a number that was not looked up is marked."""
        return f"{self.words} [from memory]" if self.from_memory else self.words

    def number(self, values: ArrayLike, sentence: str, *, margin: float, same_data: bool) -> Finding:
        """Compare accuracies with the published ones: a mean no farther from them than the margin is theirs.

        Args:
            values: [replicates], test accuracies.
            sentence: what was measured.
            margin: a fraction.
            same_data: whether these are the paper's data; if not, the answer is ``other data``.
        """
        if not np.isfinite(values).all():
            return self.not_measured(NO_VALUE)
        measured = mean_interval(values, LEVEL)
        away = round(max(self.published[0] - measured.mean, measured.mean - self.published[-1]), DECIMALS)
        answer = ("yes" if away <= margin else "no") if same_data else "other data"
        return self.answered(answer, sentence, measured)

    def claim(self, claim: Claim, answers: Mapping[str, str] | None = None, sentence: str = "") -> Finding:
        """Answer with a claim that was tested already; the interval of its test is shown at 95 %.

        Args:
            answers: by the claim's word ``yes`` or ``no``, where the statement's own do not cover it; any other word
                is ``open``.
            sentence: what was measured, where the claim's own sentence is not it.
        """
        answer = (self.answers if answers is None else answers).get(claim.word, "open")
        return self.answered(answer, sentence or claim.sentence, interval_at(claim.result.difference, LEVEL))

    def difference(
        self,
        differences: ArrayLike,
        subject: str,
        *,
        yes: Callable[[Interval], bool],
        no: Callable[[Interval], bool],
    ) -> Finding:
        """Answer by where the 90 % interval of a difference lies, so by one-sided tests at 5 %.

        Args:
            differences: [replicates], as fractions.
            subject: what was compared with what; the sentence begins with it.
            yes: whether an interval shows what the paper states; asked first.
            no: whether it refutes it. With fewer than three replicates, or neither, the answer is ``open``.
        """
        differences = np.asarray(differences, dtype=float).round(DECIMALS)
        if not np.isfinite(differences).all():
            return self.not_measured(NO_VALUE)
        interval = mean_interval(differences, 0.9)
        decided = interval.n >= FEWEST_REPLICATES
        answer = "yes" if decided and yes(interval) else "no" if decided and no(interval) else "open"
        unit = "%" if self.unit == "part" else "percentage points"
        sentence = f"{capitalized(subject)}: {seen(interval, unit)}."
        return self.answered(answer, sentence, mean_interval(differences, LEVEL))

    def above(self, differences: ArrayLike, bound: float = 0.0) -> Finding:
        """Answer ``yes`` where the 90 % interval of a difference lies above a bound, ``no`` where it lies below it."""
        return self.difference(differences, self.what, yes=lambda d: d.low > bound, no=lambda d: d.high < bound)

    def below(self, differences: ArrayLike, bound: float = 0.0) -> Finding:
        """Answer ``yes`` where the 90 % interval of a difference lies below a bound, ``no`` where it lies above it."""
        return self.difference(differences, self.what, yes=lambda d: d.high < bound, no=lambda d: d.low > bound)

    def within(self, differences: ArrayLike, margin: float) -> Finding:
        """Answer ``yes`` where the 90 % interval of a difference lies within a margin, ``no`` where it lies outside."""
        return self.difference(
            differences,
            self.what,
            yes=lambda d: -margin < d.low and d.high < margin,
            no=lambda d: d.low > margin or d.high < -margin,
        )

    def answered(self, answer: str, sentence: str, measured: Interval | None = None) -> Finding:
        """Answer with a test of one's own."""
        return Finding(self.what, self.shown, measured, self.unit, answer, sentence)

    def not_measured(self, reason: str) -> Finding:
        """Leave the statement open, with the reason why nothing was measured."""
        return self.answered("open", f"Not measured: {reason}")


def interpreted(what: str, statements: Mapping[str, Statement]) -> dict[str, Statement]:
    """Return statements with what had to be decided for all of them, before what each says of itself."""
    return {
        key: replace(one, interpreted="; ".join(filter(None, (what, one.interpreted))))
        for key, one in statements.items()
    }
