"""The students: one small net distilled from the teacher at every temperature (figure 1 of the paper).

    mlflow run . -e students -P dataset=gtsrb

The same net on hard labels (T = 0), with the same images, epochs and schedule, is what they are held against.
Cost on two cores: seconds on digits after the teacher; minutes on GTSRB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdops.cli.app import pipeline_main
from kdops.config.settings import HARD, Settings
from kdops.config.studies import SourceSettings
from kdops.data.dataset import Dataset
from kdops.papers import DEFAULT, PAPERS
from kdops.papers.szijarto_2020 import student_findings
from kdops.study.checks import check_study
from kdops.study.summary import summarize
from kdops.sweeps.model import Sweep
from kdops.verdicts.answer import Answer, Row

if TYPE_CHECKING:
    from kdops.study.study import Study


def check(settings: SourceSettings, data: Dataset) -> None:
    """Refuse what cannot be studied, before there is a run."""
    check_study(settings, data)
    if settings.source:
        from kdops.study.sources import check_source

        check_source(settings.source, data, settings.trust)


def main(settings: SourceSettings, data: Dataset | None = None) -> None:
    """Run the study."""
    from kdops.study.open import open_study

    with open_study("students", settings, data) as study:
        run_from_source(study) if settings.source else run(study)


def run(study: Study[Settings]) -> Answer:
    """Distill the students from the study's own teachers, and conclude."""
    from kdops.study.figures import students_figure

    settings = study.settings
    teachers, students = direct(study)
    students = students.at([HARD, *settings.sweeps["student"]])
    study.stop_if_planned()
    hard, soft = students.hard().accuracies(), students.soft().table()
    same = settings.dataset in PAPERS[DEFAULT].data
    return study.conclude(
        "students",
        Answer.of(
            [summarize("teacher", teachers), *rows_of(study, students)],
            findings=student_findings(hard, soft, students.temperatures, margin=settings.margin, same_data=same),
        ),
        figures={"figure-1-students.png": students_figure(settings, teachers, students)},
    )


def run_from_source(study: Study[SourceSettings]) -> Answer:
    """Distill the students from what the caller names, and conclude."""
    from kdops.study.sources import find_source

    settings = study.settings
    source, remark = find_source(study, settings.source)
    students = study.distill(source, "student", [HARD, *settings.sweeps["student"]], seeds=settings.replicates())
    study.stop_if_planned()
    measured = [summarize("source", source)] if source.records[0].metrics else []
    rows = [*measured, *rows_of(study, students)]
    return study.conclude("students", Answer.of(rows, remarks=[remark] if remark else []))


def direct(study: Study[Settings]) -> tuple[Sweep, Sweep]:
    """Return the teachers and their direct students, at every temperature that any experiment of the study asks for."""
    teachers = study.train("teacher")
    return teachers, study.distill(teachers, "student", [HARD, *study.settings.direct_temperatures()])


def rows_of(study: Study[Settings], students: Sweep) -> list[Row]:
    """Return the rows of the students."""
    return [
        summarize("student, hard labels", students.hard()),
        summarize("students, distilled", students.soft()),
        summarize(f"student, best by {study.settings.select_on}", study.best(students.soft())),
    ]


if __name__ == "__main__":
    pipeline_main("students", main)
