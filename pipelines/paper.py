"""The whole paper: teacher, students, symmetry, ensemble and transitivity in one study, with a report.

    mlflow run . -e paper
    mlflow run . -e paper -P dataset=digits

Each experiment is a study of its own below this one; what they have in common, the teachers and the direct students,
is trained once. The report says claim by claim what replicates.
Cost on two cores: minutes on digits; on GTSRB most of a day, nearly all of it for the convolutional nets of
figure 2, of which ``reversed_seeds`` and ``reversed_temperatures`` ask for fewer; ``dry_run=true`` tells beforehand.
"""

from pathlib import Path

from kdops.cli.app import pipeline_main
from kdops.config.studies import PaperSettings
from kdops.data.dataset import Dataset
from kdops.study.checks import check_study
from kdops.verdicts import Verdict
from kdops.verdicts.answer import Answer
from pipelines import ensemble, students, symmetry, teacher, transitivity

PARTS = {
    "teacher": teacher.run,
    "students": students.run,
    "symmetry": symmetry.run,
    "ensemble": ensemble.of_study,
    "transitivity": transitivity.run,
}


check = check_study
"""Refuse what cannot be studied, before there is a run."""


def main(settings: PaperSettings, data: Dataset | None = None) -> None:
    """Run the study."""
    from kdops.study.study import open_study

    with open_study("paper", settings, data) as study:
        answers = []
        for name, experiment in PARTS.items():
            with study.part(name) as part:
                experiment(part)
                answers.append((name, part.answer))
        study.conclude("paper", lambda: whole(answers), finish=lambda folder: report(study, folder))


def whole(answers: list[tuple[str, Answer]]) -> Answer:
    """Return the answer of all experiments: their tables one below the other, and what each of them said."""
    rows: dict[str, object] = {}
    for _, answer in answers:
        for row in answer.rows:
            # The first is over all replicates; a later part may have looked at some of them.
            rows.setdefault(row.what, row)
    said = [f"{name}: {answer.sentences[0]}" for name, answer in answers if answer.sentences]
    verdicts = [answer.verdict for _, answer in answers if answer.verdict]
    statistics = {name: value for verdict in verdicts for name, value in verdict.statistics.items()}
    word = ", ".join(verdict.word for verdict in verdicts)
    return Answer(list(rows.values()), Verdict(word, " ".join(said), statistics, ()), (), said)


def report(study, folder: Path) -> None:
    """Write the report of the whole study, from its store alone."""
    from kdops.reporting.report import write_report

    write_report(study.stored(), folder)


if __name__ == "__main__":
    pipeline_main("paper", main)
