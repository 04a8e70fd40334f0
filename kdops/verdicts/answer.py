"""What a study answers: its closing table, its verdict, and what it finds of the paper; as a value and as a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdops.verdicts.claims import Verdict
from kdops.verdicts.findings import Finding
from kdops.verdicts.intervals import Interval

__all__ = ["ANSWER_FILE", "Answer", "Row"]

ANSWER_FILE = "answer.json"


@dataclass(frozen=True)
class Row:
    """One line of the closing table: what, over how many replicates, and how good on test."""

    what: str
    models: int
    accuracy: Interval


@dataclass(frozen=True)
class Answer:
    """What a study answers.

    Attributes:
        rows: the closing table.
        verdict: the answer about a property; None where the study asks none.
        findings: what the paper says of it, and what was measured.
        remarks: further sentences, told after the verdict's.
        measured: further statistics by name, finite.
    """

    rows: Sequence[Row]
    verdict: Verdict | None = None
    findings: Sequence[Finding] = ()
    remarks: Sequence[str] = ()
    measured: Mapping[str, float] = field(default_factory=dict)

    @property
    def word(self) -> str | None:
        """The verdict in a word."""
        return self.verdict.word if self.verdict else None

    @property
    def sentences(self) -> tuple[str, ...]:
        """The claims of the verdict with their numbers, then the remarks."""
        claims = (claim.sentence for claim in self.verdict.claims) if self.verdict else ()
        return (*claims, *self.remarks)

    @property
    def statistics(self) -> dict[str, float]:
        """The verdict's statistics by name, and what else was measured."""
        return {**(self.verdict.statistics if self.verdict else {}), **self.measured}

    def write(self, folder: Path, study: str, title: str) -> None:
        """Write it as ``answer.json`` into a folder: all that a report needs beside the results."""
        claims = self.verdict.claims if self.verdict else ()
        told = {
            "study": study,
            "title": title,
            "word": self.word,
            "sentences": list(self.sentences),
            "claims": [{"name": c.name, "word": c.word, "sentence": c.sentence} for c in claims],
            "statistics": self.statistics,
            "rows": [{"what": r.what, "models": r.models, **_plain(r.accuracy)} for r in self.rows],
            "findings": [finding.as_dict() for finding in self.findings],
        }
        (folder / ANSWER_FILE).write_text(json.dumps(told, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _plain(interval: Interval) -> dict[str, float | int | None]:
    """Return an interval as JSON has it; of one replicate the bounds are unknown."""
    known = interval.n > 1
    return {
        "mean": interval.mean,
        "low": interval.low if known else None,
        "high": interval.high if known else None,
        "n": interval.n,
    }
