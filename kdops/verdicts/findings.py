"""A finding: what the paper states, what was measured, and whether it replicates."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from kdops.verdicts.intervals import Interval

ANSWERS = ("yes", "no", "open", "other data")
UNITS = ("accuracy", "difference", "share", "part")
LEVEL = 0.95
"""The coverage of what is shown as measured; the tests behind the answers are at their own levels."""


@dataclass(frozen=True)
class Finding:
    """One statement of the paper beside what was measured.

    Attributes:
        what: what was looked at.
        paper: the paper's statement, in our words with its numbers.
        measured: mean and 95 % interval over replicates, as fractions; None where there is nothing to measure.
        unit: of what was measured: ``accuracy``, ``difference`` (of accuracies), ``share``, or ``part``: by how
            much a quantity is above another one, as a part of that one.
        answer: does it replicate: ``yes``, ``no``, ``open`` (the data do not decide), or ``other data`` (a number
            of the paper cannot be compared, since these data are not the paper's).
        sentence: what was measured, in percentage points or, of a part, in percent.
    """

    what: str
    paper: str
    measured: Interval | None
    unit: str
    answer: str
    sentence: str

    def __post_init__(self):
        """Refuse an answer or a unit that is none. Raises ValueError for another answer or unit."""
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


def describe_findings(findings: Collection[Finding]) -> str:
    """Return how many statements replicate."""
    counts = {answer: sum(finding.answer == answer for finding in findings) for answer in ANSWERS}
    return (
        f"{len(findings)} statements: {counts['yes']} replicated, {counts['no']} not, {counts['open']} left open by "
        f"the data, {counts['other data']} with a number that belongs to other data than these."
    )
