"""What a study answered, as its store keeps it: ``answer.json``, or the note of a study from before there was one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Measured", "StoredAnswer", "StoredClaim", "StoredFinding", "StoredRow", "read_answer", "read_note"]

CELLS = re.compile(r"(?<!\\)\|")
BOUNDS = re.compile(r"([0-9.]+) to ([0-9.]+)")


@dataclass(frozen=True)
class StoredRow:
    """One line of a closing table.

    Attributes:
        what: what the models are.
        models: how many.
        mean: test accuracy, mean over replicates.
        low: lower bound of its 95 % interval; None for one replicate.
        high: upper bound, likewise.
        n: how many replicates.
    """

    what: str
    models: int
    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class StoredClaim:
    """One statement that a study tested: its name, the answer in a word, and in a sentence."""

    name: str
    word: str
    sentence: str


@dataclass(frozen=True)
class Measured:
    """What was measured for a finding: a mean, its interval (None where unknown), replicates, coverage."""

    mean: float
    low: float | None
    high: float | None
    n: int
    level: float


@dataclass(frozen=True)
class StoredFinding:
    """One statement of the paper beside what was measured.

    Attributes:
        what: what it is about.
        paper: what the paper says.
        measured: what was measured; None where it is no single number.
        unit: the unit of the measured number.
        answer: does it replicate: ``yes``, ``no``, ``open`` or ``other data``.
        sentence: the answer with its numbers.
    """

    what: str
    paper: str
    measured: Measured | None
    unit: str
    answer: str
    sentence: str


@dataclass(frozen=True)
class StoredAnswer:
    """All that a study answered.

    Attributes:
        study: the entry point.
        title: what it is about; may be empty.
        word: the verdict, or None where there is none.
        sentences: the answer in sentences, the main one first.
        claims: the statements tested.
        statistics: numbers by flat names, finite.
        rows: the closing table.
        findings: the paper's statements beside what was measured.
        basis: a paragraph on what the numbers rest on; empty where the store has none.
    """

    study: str
    title: str = ""
    word: str | None = None
    sentences: tuple[str, ...] = ()
    claims: tuple[StoredClaim, ...] = ()
    statistics: Mapping[str, float] = field(default_factory=dict)
    rows: tuple[StoredRow, ...] = ()
    findings: tuple[StoredFinding, ...] = ()
    basis: str = ""


def read_answer(text: str, basis: str = "") -> StoredAnswer:
    """Read ``answer.json``.

    Args:
        text: its content.
        basis: see :class:`StoredAnswer`.

    Raises:
        ValueError: it is no JSON, or lacks what an answer has.
    """
    try:
        found = json.loads(text)
        return StoredAnswer(
            study=str(found["study"]),
            title=str(found.get("title") or ""),
            word=None if found.get("word") is None else str(found["word"]),
            sentences=tuple(map(str, found.get("sentences") or ())),
            claims=tuple(
                StoredClaim(str(claim["name"]), str(claim["word"]), str(claim["sentence"]))
                for claim in found.get("claims") or ()
            ),
            statistics=_finite(found.get("statistics") or {}),
            rows=tuple(_row(row) for row in found.get("rows") or ()),
            findings=tuple(_finding(finding) for finding in found.get("findings") or ()),
            basis=basis,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"lacks or misplaces {error}") from error


def read_note(study: str, note: str, word: str | None, statistics: Mapping[str, float]) -> StoredAnswer:
    """Read what a study answered from the note of its run: heading, sentences, table, and what it rests on.

    Args:
        study: the entry point.
        note: the run's note, Markdown; may be empty.
        word: the verdict by the run's tag.
        statistics: the run's metrics.
    """
    sentences, rows, after = [], [], []
    for paragraph in filter(None, (part.strip() for part in note.split("\n\n"))):
        if paragraph.startswith("|"):
            rows = [row for line in paragraph.splitlines()[2:] if (row := _row_of_line(line))]
        elif rows:
            after.append(paragraph)
        elif not re.fullmatch(r"\*\*.*\*\*", paragraph):
            sentences.append(paragraph)
    return StoredAnswer(
        study=study,
        word=word,
        sentences=tuple(sentences),
        statistics=_finite(statistics),
        rows=tuple(rows),
        basis=after[0] if after else "",
    )


def _row(row: Mapping[str, Any]) -> StoredRow:
    low, high = (_known(row.get(name)) for name in ("low", "high"))
    return StoredRow(str(row["what"]), int(row["models"]), float(row["mean"]), low, high, int(row["n"]))


def _finding(finding: Mapping[str, Any]) -> StoredFinding:
    measured = finding.get("measured")
    if measured is not None:
        low, high = (_known(measured.get(name)) for name in ("low", "high"))
        measured = Measured(float(measured["mean"]), low, high, int(measured["n"]), float(measured.get("level", 0.95)))
    texts = (str(finding.get(name) or "") for name in ("unit", "answer", "sentence"))
    return StoredFinding(str(finding["what"]), str(finding["paper"]), measured, *texts)


def _row_of_line(line: str) -> StoredRow | None:
    """Read one line of a note's table, ``| what | models | mean | low to high | n |``; None for any other line."""
    cells = [cell.strip() for cell in CELLS.split(line.strip().strip("|"))]
    try:
        what, models, mean, bounds, n = cells
        low, high = map(float, match.groups()) if (match := BOUNDS.fullmatch(bounds)) else (None, None)
        return StoredRow(what.replace("\\|", "|"), int(models), float(mean), low, high, int(n))
    except ValueError:
        return None


def _finite(numbers: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): known for name, value in numbers.items() if (known := _known(value)) is not None}


def _known(value: Any) -> float | None:
    """Return a number, or None for what is unknown: null, or not finite."""
    return None if value is None or not math.isfinite(float(value)) else float(value)
