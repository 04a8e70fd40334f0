"""What a study answers: its closing table, its verdict, and what it finds of the paper; as a value and as a file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kdops.verdicts.claims import NO_VERDICT, ClaimAnswer, Verdict, finite
from kdops.verdicts.findings import Finding
from kdops.verdicts.intervals import Interval

ANSWER_FILE = "answer.json"


@dataclass(frozen=True)
class Row:
    """One line of the closing table.

    Attributes:
        what: whose numbers these are.
        models: how many models; none of a baseline.
        accuracy: their test accuracy over replicates, with its interval at 95 %.
        balanced: their mean balanced accuracy on test, where classes differ much in size; nan elsewhere.
    """

    what: str
    models: int
    accuracy: Interval
    balanced: float = math.nan

    def to_json(self) -> dict[str, Any]:
        """Return plain values; the level of the interval is always 95 %."""
        accuracy = self.accuracy.to_json()
        del accuracy["level"]
        balanced = {} if math.isnan(self.balanced) else {"balanced": self.balanced}
        return {"what": self.what, "models": self.models, **accuracy, **balanced}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Row:
        """Return the row that :meth:`to_json` wrote."""
        balanced = float(values.get("balanced", math.nan))
        return cls(str(values["what"]), int(values["models"]), Interval.from_json(values), balanced)


@dataclass(frozen=True)
class Answer:
    """What a study answers; :meth:`from_json` reads back what :meth:`to_json` wrote.

    Attributes:
        rows: the closing table.
        word: the verdict; empty where the study asks for none.
        sentences: the claims of the verdict with their numbers, then further remarks.
        claims: the claims tested.
        statistics: numbers by flat names, finite.
        findings: what the paper states, and what was measured.
        title: what the study is about.
    """

    rows: tuple[Row, ...] = ()
    word: str = ""
    sentences: tuple[str, ...] = ()
    claims: tuple[ClaimAnswer, ...] = ()
    statistics: Mapping[str, float] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    title: str = ""

    @classmethod
    def of(
        cls,
        rows: Sequence[Row],
        verdict: Verdict = NO_VERDICT,
        findings: Sequence[Finding] = (),
        remarks: Sequence[str] = (),
        measured: Mapping[str, float] | None = None,
    ) -> Answer:
        """Return the answer that a verdict and what stands beside it make.

        Args:
            findings: what the paper states, and what was measured.
            remarks: further sentences, after the verdict's.
            measured: further statistics by name, finite.
        """
        return cls(
            rows=tuple(rows),
            word=verdict.word,
            sentences=(*(claim.sentence for claim in verdict.claims), *remarks),
            claims=tuple(ClaimAnswer(claim.name, claim.word, claim.sentence) for claim in verdict.claims),
            statistics={**verdict.statistics, **(measured or {})},
            findings=tuple(findings),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON; what is unknown is None."""
        return {
            "title": self.title,
            "word": self.word or None,
            "sentences": list(self.sentences),
            "claims": [claim.to_json() for claim in self.claims],
            "statistics": dict(self.statistics),
            "rows": [row.to_json() for row in self.rows],
            "findings": [finding.to_json() for finding in self.findings],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Answer:
        """Return the answer that :meth:`to_json` wrote, without numbers that are not finite.

        Raises:
            KeyError, TypeError, ValueError: it lacks what an answer has, or has it otherwise.
        """
        return cls(
            rows=tuple(map(Row.from_json, values.get("rows") or ())),
            word=str(values["word"] or ""),
            sentences=tuple(map(str, values.get("sentences") or ())),
            claims=tuple(map(ClaimAnswer.from_json, values.get("claims") or ())),
            statistics=finite(values.get("statistics") or {}),
            findings=tuple(map(Finding.from_json, values.get("findings") or ())),
            title=str(values.get("title") or ""),
        )


def read_answer(text: str) -> Answer:
    """Read the content of ``answer.json``. Raises ValueError if it is no JSON, or lacks what an answer has."""
    try:
        return Answer.from_json(json.loads(text))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"lacks or misplaces {error}") from error
