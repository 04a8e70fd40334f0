"""The students: one small net distilled from the teacher at every temperature (figure 1 of the paper).

    mlflow run . -e students -P dataset=gtsrb

The same net on hard labels (T = 0), with the same images, epochs and schedule, is what they are held against.
Cost on two cores: seconds on digits after the teacher; minutes on GTSRB.
"""

from kdops.cli.app import pipeline_main
from kdops.config.settings import HARD, Settings
from kdops.config.studies import SourceSettings
from kdops.data.dataset import Dataset
from kdops.study.checks import check_study
from kdops.study.summary import summarize
from kdops.verdicts.answer import Answer


def check(settings: SourceSettings, data: Dataset) -> None:
    """Refuse what cannot be studied, before there is a run."""
    from kdops.study.sources import check_source

    check_study(settings, data)
    if settings.source:
        check_source(settings.source, data, settings.trust)


def main(settings: SourceSettings, data: Dataset | None = None) -> None:
    """Run the study."""
    from kdops.study.study import open_study

    with open_study("students", settings, data) as study:
        run_from(study) if settings.source else run(study)


def run(study) -> None:
    """Distill the students and conclude."""
    from kdops.papers.szijarto_2020 import student_findings

    teachers, students = direct(study)
    students = students.at([HARD, *study.settings.sweeps["student"]])
    hard, soft = students.hard(), students.soft()
    study.conclude(
        "students",
        lambda: Answer(
            [
                summarize("teacher", teachers),
                summarize("student, hard labels", hard),
                summarize("students, distilled", soft),
                summarize(f"student, best by {study.settings.select_on}", study.best(soft)),
            ],
            findings=student_findings(hard.accuracies(), soft.table(), soft.temperatures, **study.measure()),
        ),
        figures=lambda: {"figure-1-students.png": figure_1(study.settings, teachers, students)},
    )


def run_from(study) -> None:
    """Distill the students from what the caller names, and conclude."""
    from kdops.study.sources import find_source

    settings = study.settings
    source, remark = find_source(study, settings.source)
    students = study.distill(source, "student", [HARD, *settings.sweeps["student"]], seeds=settings.replicates())
    hard, soft = students.hard(), students.soft()
    study.conclude(
        "students",
        lambda: Answer(
            [
                *([summarize("source", source)] if source.records[0].metrics else []),
                summarize("student, hard labels", hard),
                summarize("students, distilled", soft),
                summarize(f"student, best by {settings.select_on}", study.best(soft)),
            ],
            remarks=[remark] if remark else [],
        ),
    )


def direct(study):
    """Return the teachers and their direct students, at every temperature that any experiment of the study asks for."""
    teachers = study.train("teacher")
    return teachers, study.distill(teachers, "student", [HARD, *study.settings.direct_temperatures()])


def figure_1(settings: Settings, teachers, students):
    """Draw the accuracy of the students over temperature."""
    from kdops.reporting.figures import Curve, temperature_figure

    return temperature_figure(
        f"Students distilled from the teacher, {settings.dataset}",
        [Curve("student", students.soft().temperatures, students.soft().table())],
        {"teacher": teachers.accuracies(), "student on hard labels": students.hard().accuracies()},
    )


if __name__ == "__main__":
    pipeline_main("students", main)
