"""The students: one small net distilled from the teacher at every temperature (figure 1 of the paper).

    mlflow run . -e students -P dataset=gtsrb

The same net on hard labels (T = 0), with the same images, epochs and schedule, is what they are held against.
Cost on two cores: seconds on digits after the teacher; minutes on GTSRB.
"""

from kdops.cli import pipeline_main
from kdops.closing import summarise
from kdops.config import HARD, Settings


def main(settings: Settings) -> None:
    """Run the study."""
    from kdops.study import open_study

    with open_study("students", settings) as study:
        teachers = study.train("teacher")
        students = study.distill(teachers, "student", [HARD, *settings.temperatures])
        study.conclude(
            "students",
            rows=lambda: [
                summarise("teacher", teachers),
                summarise("student, hard labels", students.hard()),
                summarise("students, distilled", students.soft()),
                summarise(f"student, best by {settings.select_on}", study.best(students)),
            ],
            figures=lambda: {"figure-1-students.png": figure(settings, teachers, students)},
        )


def figure(settings: Settings, teachers, students):
    """Draw figure 1."""
    from kdops.figures import Curve, temperature_figure

    return temperature_figure(
        f"Students distilled from the teacher, {settings.dataset}",
        [Curve("student", students.soft().temperatures, students.soft().table())],
        {"teacher": teachers.accuracies(), "student on hard labels": students.hard().accuracies()},
    )


if __name__ == "__main__":
    pipeline_main("students", main)
