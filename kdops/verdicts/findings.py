"""A finding: what the paper says, what was measured, and whether it replicates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kdops.utils.text import capitalized
from kdops.verdicts.claims import DECIMALS, Claim
from kdops.verdicts.intervals import Interval, interval_at, mean_interval
from kdops.verdicts.phrases import seen
from kdops.verdicts.statistics import FEWEST_REPLICATES

__all__ = ["ANSWERS", "UNITS", "Finding", "claim_finding", "difference_finding", "number_finding"]

ANSWERS = ("yes", "no", "open", "other data")
UNITS = ("accuracy", "difference", "share")
LEVEL = 0.95
"""The coverage of what is shown as measured; the tests behind the answers are at their own levels."""


@dataclass(frozen=True)
class Finding:
    """One statement of the paper beside what was measured.

    Attributes:
        what: what was looked at.
        paper: what the paper says of it, in our words with its numbers.
        measured: mean and 95 % interval over replicates, as fractions; None where there is nothing to measure.
        unit: of what was measured: ``accuracy``, ``difference`` (of accuracies) or ``share``.
        answer: does it replicate: ``yes``, ``no``, ``open`` (the data do not decide), or ``other data`` (a number
            of the paper cannot be compared, since these data are not the paper's).
        sentence: what was measured, in percentage points.
    """

    what: str
    paper: str
    measured: Interval | None
    unit: str
    answer: str
    sentence: str

    def __post_init__(self):
        """Refuse an answer or a unit that is none.

        Raises:
            ValueError: for another answer or unit.
        """
        if self.answer not in ANSWERS:
            raise ValueError(f"answer must be one of {', '.join(ANSWERS)}, not {self.answer!r}")
        if self.unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(UNITS)}, not {self.unit!r}")

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON; what is unknown is None."""
        return vars(self) | {"measured": self.measured and self.measured.to_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Finding:
        """Return the finding that :meth:`to_json` wrote."""
        measured = values.get("measured")
        interval = None if measured is None else Interval.from_json(measured)
        what, paper, unit, answer = (str(values[name]) for name in ("what", "paper", "unit", "answer"))
        return cls(what, paper, interval, unit, answer, str(values.get("sentence") or ""))


def number_finding(
    what: str,
    paper: str,
    numbers: tuple[float, float],
    values: ArrayLike,
    sentence: str,
    *,
    margin: float,
    same_data: bool,
) -> Finding:
    """Compare accuracies with a number of the paper.

    Args:
        what: what was looked at.
        paper: what the paper says of it.
        numbers: the lowest and the highest accuracy that the paper gives, twice the same for a single one.
        values: [replicates], test accuracies.
        sentence: what was measured.
        margin: a mean no farther from the numbers than this is theirs.
        same_data: whether these are the paper's data; if not, the answer is ``other data``.
    """
    measured = mean_interval(values, LEVEL)
    low, high = numbers
    away = round(max(low - measured.mean, measured.mean - high), DECIMALS)
    answer = ("yes" if away <= margin else "no") if same_data else "other data"
    return Finding(what, paper, measured, "accuracy", answer, sentence)


def claim_finding(
    what: str, paper: str, claim: Claim, answers: Mapping[str, str], *, sentence: str = "", unit: str = "difference"
) -> Finding:
    """Answer with a claim that was tested already.

    Args:
        what: what was looked at.
        paper: what the paper says of it.
        claim: the test; its interval is shown at 95 %.
        answers: by the claim's word ``yes`` or ``no``; any other word is ``open``.
        sentence: what was measured, where the claim's own sentence is not it.
        unit: of the difference.
    """
    measured = interval_at(claim.result.difference, LEVEL)
    return Finding(what, paper, measured, unit, answers.get(claim.word, "open"), sentence or claim.sentence)


def difference_finding(
    what: str,
    paper: str,
    differences: ArrayLike,
    subject: str,
    *,
    yes: Callable[[Interval], bool],
    no: Callable[[Interval], bool],
    unit: str = "difference",
) -> Finding:
    """Answer by where the 90 % interval of a difference lies, so by one-sided tests at 5 %.

    Args:
        what: what was looked at.
        paper: what the paper says of it.
        differences: [replicates], as fractions.
        subject: what was compared with what; the sentence begins with it.
        yes: whether an interval shows what the paper says; asked first.
        no: whether it refutes it. With fewer than three replicates, or neither, the answer is ``open``.
        unit: of the difference.
    """
    differences = np.asarray(differences, dtype=float).round(DECIMALS)
    interval = mean_interval(differences, 0.9)
    decided = interval.n >= FEWEST_REPLICATES
    answer = "yes" if decided and yes(interval) else "no" if decided and no(interval) else "open"
    sentence = f"{capitalized(subject)}: {seen(interval)}."
    return Finding(what, paper, mean_interval(differences, LEVEL), unit, answer, sentence)
