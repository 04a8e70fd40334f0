"""The paper that kdops grew from: teacher, students, symmetry, ensemble and transitivity in one study, with a report.

    mlflow run . -e paper
    mlflow run . -e paper -P dataset=digits

Each experiment is a study of its own below this one; what they have in common, the teachers and the direct students,
is trained once. The report states claim by claim what replicates.
Nearly all of its cost is for the convolutional nets of figure 2, of which ``reversed_seeds`` and
``reversed_temperatures`` ask for fewer; ``dry_run=true`` shows the cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from kdops.config.studies import PaperSettings
from kdops.papers.szijarto_2020 import STATEMENTS
from kdops.verdicts.answer import Answer, Row
from pipelines import ensemble, students, symmetry, teacher, transitivity

if TYPE_CHECKING:
    from kdops.study.study import Study

__all__ = ["PARTS", "STATEMENTS", "answer", "run"]

PARTS: Mapping[str, Callable[[Study[PaperSettings]], Answer]] = {
    "teacher": teacher.run,
    "students": students.run,
    "symmetry": symmetry.run,
    "ensemble": ensemble.run_with_students,
    "transitivity": transitivity.run,
}


def run(study: Study[PaperSettings]) -> Answer:
    """Run every experiment, and conclude with a report."""
    answers = {}
    for name, experiment in PARTS.items():
        with study.part(name) as part:
            answers[name] = experiment(part)
    study.stop_if_planned()
    return study.conclude("paper", answer(answers), report=True)


def answer(answers: Mapping[str, Answer]) -> Answer:
    """Return the answer of all experiments: their tables one below the other, and the first sentence of each."""
    rows: dict[str, Row] = {}
    for part in answers.values():
        for row in part.rows:
            # The first is over all replicates; a later part may have looked at some of them.
            rows.setdefault(row.what, row)
    first_sentences = [f"{name}: {part.sentences[0]}" for name, part in answers.items() if part.sentences]
    return Answer(
        rows=tuple(rows.values()),
        word=", ".join(part.word for part in answers.values() if part.word),
        sentences=tuple(first_sentences),
        statistics={name: value for part in answers.values() for name, value in part.statistics.items()},
    )
