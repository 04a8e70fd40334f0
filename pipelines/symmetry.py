"""Symmetry: the best student distilled back into an untrained teacher (section 4.1, figure 2).

    mlflow run . -e symmetry -P dataset=gtsrb

Symmetric if the reversed nets beat the student and come near the teacher. What is lost on the way is told apart by a
control the paper lacks: the same untrained net distilled from the teacher itself, on the same images, from the same
start. The reversed nets are also held against one that learns the student's bare decisions (T = 0).
Cost on two cores: a minute on digits; about ten minutes a net on GTSRB, and twice that with ``transfer=shared``.
"""

from kdops.cli.app import pipeline_main
from kdops.config.settings import HARD, Settings
from kdops.config.studies import SymmetrySettings
from kdops.data.dataset import Dataset
from kdops.study.checks import check_study
from kdops.study.summary import summarize
from kdops.verdicts.answer import Answer
from pipelines.students import direct

check = check_study
"""Refuse what cannot be studied, before there is a run."""


def main(settings: SymmetrySettings, data: Dataset | None = None) -> None:
    """Run the study."""
    from kdops.study.study import open_study

    with open_study("symmetry", settings, data) as study:
        run(study)


def run(study) -> None:
    """Reverse the best students and conclude."""
    settings = study.settings
    everyone, students = direct(study)
    sources = study.best(students.at(settings.sweeps["student"])).first(settings.reversed_seeds)
    teachers = everyone.first(settings.reversed_seeds)
    back = study.distill(sources, "reversed", [HARD, *settings.sweeps["reversed"]], predictions=True)
    again = settings.sweeps["born-again"]
    # On the very images that the reversed nets see, whatever the transfer setting.
    born_again = study.distill(teachers, "born-again", again, hop=sources.hops) if again else None
    study.conclude(
        "symmetry",
        lambda: answer(study, teachers, sources, back, born_again),
        figures=lambda: {"figure-2-symmetry.png": figure_2(settings, teachers, sources, back, born_again)},
    )


def answer(study, teachers, sources, back, born_again) -> Answer:
    """Hold the reversed nets against the student, the teacher and the control."""
    from kdops.papers.szijarto_2020 import symmetry_findings
    from kdops.verdicts import symmetry_verdict

    verdict = symmetry_verdict(
        back.soft().table(),
        sources.accuracies(),
        teachers.accuracies(),
        study.settings.margin,
        temperatures=back.temperatures,
        born_again=born_again.table() if born_again else None,
        born_again_temperatures=born_again.temperatures if born_again else (),
        predictions=back.hard().accuracies(),
        select_on=study.settings.select_on,
    )
    rows = [
        summarize("teacher", teachers),
        summarize(f"student, best by {study.settings.select_on}", sources),
        summarize("reversed", back.soft()),
        summarize("reversed, the student's decisions", back.hard()),
        *([summarize("born again from the teacher", born_again)] if born_again else []),
    ]
    return Answer(rows, verdict, symmetry_findings(verdict, back.soft().table(), **study.measure()))


def figure_2(settings: Settings, teachers, sources, back, born_again):
    """Draw the reversed nets over temperature, and those of the control; student and teacher as level lines."""
    from kdops.reporting.figures import Curve, temperature_figure

    return temperature_figure(
        f"Student distilled back into the teacher's architecture, {settings.dataset}",
        [
            Curve("reversed, from the student", back.temperatures, back.soft().table()),
            *([Curve("control, from the teacher", born_again.temperatures, born_again.table())] if born_again else []),
        ],
        {
            "teacher": teachers.accuracies(),
            "student": sources.accuracies(),
            "reversed, from the student's decisions": back.hard().accuracies(),
        },
    )


if __name__ == "__main__":
    pipeline_main("symmetry", main)
