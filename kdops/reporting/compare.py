"""What differs between two studies: settings, data, versions, and what came out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from kdops.reporting.report import flat
from kdops.reporting.terminal import plain_console, plain_table
from kdops.tracking.stored_study import StoredStudy
from kdops.verdicts.answer import Row

ABSENT = "-"


@dataclass(frozen=True)
class ResultPair:
    """One line of the closing tables of two studies.

    Attributes:
        part: the study it belongs to.
        what: what the models are.
        first: the line of the first study; None where it has none.
        second: the line of the second study, likewise.
    """

    part: str
    what: str
    first: Row | None
    second: Row | None

    @property
    def points(self) -> float | None:
        """The second mean minus the first in percentage points; None where one is missing."""
        if self.first is None or self.second is None:
            return None
        return 100 * (self.second.accuracy.mean - self.first.accuracy.mean)

    @property
    def equal(self) -> bool:
        """Both are there with the same mean over as many replicates."""
        if self.first is None or self.second is None:
            return False
        first, second = self.first.accuracy, self.second.accuracy
        return (first.mean, first.n) == (second.mean, second.n)


@dataclass(frozen=True)
class Comparison:
    """Two studies side by side.

    Attributes:
        differences: by topic (``settings``, ``data``, ``versions`` ...) what differs, each by name with both values
            as text; a topic without differences is empty.
        verdicts: the verdict of each part that has one in either study, ``-`` where there is none.
        results: every line of both closing tables.
    """

    differences: Mapping[str, Mapping[str, tuple[str, str]]]
    verdicts: Mapping[str, tuple[str, str]]
    results: tuple[ResultPair, ...]


def compare_studies(first: StoredStudy, second: StoredStudy) -> Comparison:
    """Compare two studies, by their parts where they have any."""
    studies = first, second
    differences = {
        "settings": _different(*(_settings(study) for study in studies)),
        **{
            topic: _different(*(dict(flat(getattr(study, topic))) for study in studies))
            for topic in ("data", "split", "versions", "machine")
        },
    }
    one, other = ({part.study: part.answer.word for part in study.whole() if part.answer.word} for study in studies)
    rows = [dict(_rows(study)) for study in studies]
    return Comparison(
        differences=differences,
        verdicts={part: (one.get(part, ABSENT), other.get(part, ABSENT)) for part in {**one, **other}},
        results=tuple(ResultPair(key[0], key[1], rows[0].get(key), rows[1].get(key)) for key in {**rows[0], **rows[1]}),
    )


def show_comparison(
    first: StoredStudy, second: StoredStudy, comparison: Comparison, console: Console | None = None
) -> None:
    """Print a comparison: what is equal in a word, what differs in tables."""
    console = console or plain_console()
    for mark, study in (("A", first), ("B", second)):
        console.print(f"{mark}  {study.run_id[:8]}  {study.name}  {study.started:%Y-%m-%d %H:%M} UTC", markup=False)
    console.print()
    for topic, different in comparison.differences.items():
        console.print(f"{topic}:" if different else f"{topic}: equal", markup=False)
        for name, (one, other) in different.items():
            console.print(f"  {name}: {_short(one)} -> {_short(other)}", markup=False)
    console.print()
    for part, (one, other) in comparison.verdicts.items():
        same = "both " + one if one == other else f"{one} -> {other}"
        console.print(f"verdict of {part}: {same}", markup=False)
    _show_results(comparison.results, console)


def _show_results(pairs: tuple[ResultPair, ...], console: Console) -> None:
    different = [pair for pair in pairs if not pair.equal]
    if not different:
        console.print("results: equal" if pairs else "results: neither study has a closing table")
        return
    console.print("results: test accuracy (replicates); the difference is B minus A, in percentage points, untested")
    table = plain_table([("models", "left"), ("A", "right"), ("B", "right"), ("points", "right")], wraps="models")
    several = len({pair.part for pair in pairs}) > 1
    for pair in different:
        what = f"{pair.part}: {pair.what}" if several else pair.what
        points = ABSENT if pair.points is None else f"{pair.points:+.2f}"
        table.add_row(Text(what), _mean(pair.first), _mean(pair.second), points)
    console.print(table)
    if equal := len(pairs) - len(different):
        console.print(f"{equal} other line{'s are' if equal > 1 else ' is'} equal.")


def _different(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    pairs = {name: (first.get(name, ABSENT), second.get(name, ABSENT)) for name in {**first, **second}}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _settings(study: StoredStudy) -> dict[str, str]:
    """Return a study's settings with the entry point, and those of its parts where they differ from the whole's."""
    own = dict(flat(study.settings))
    parts = {
        f"{part.study}.{name}": text
        for part in study.parts
        for name, text in flat(part.settings)
        if own.get(name) != text
    }
    return {"study": study.study, **own, **parts}


def _rows(study: StoredStudy) -> Iterator[tuple[tuple[str, str, int], Row]]:
    """Yield the lines of the closing tables by part, what they are, and their number among equals."""
    for part in study.whole():
        seen: Counter[str] = Counter()
        for row in part.answer.rows:
            yield (part.study, row.what, seen[row.what]), row
            seen[row.what] += 1


def _short(text: str) -> str:
    """Return the beginning of a digest, and any other text as it is."""
    return text[:12] if re.fullmatch("[0-9a-f]{40,}", text) else text


def _mean(row: Row | None) -> str:
    return ABSENT if row is None else f"{row.accuracy.mean:.4f} ({row.accuracy.n})"
