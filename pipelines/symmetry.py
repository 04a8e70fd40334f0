"""Symmetry: the best student distilled back into an untrained teacher (section 4.1, figure 2).

    mlflow run . -e symmetry -P dataset=gtsrb

Symmetric if the reversed nets beat the student and come near the teacher. What is lost on the way is measured by a
control that the paper lacks: the same untrained net distilled from the teacher itself, on the same images, from the
same start. The reversed nets are also held against one that learns the student's bare decisions (T = 0).
Cost on two cores: a minute on digits; about ten minutes a net on GTSRB, and twice that with ``transfer=shared``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdops.cli.app import pipeline_main
from kdops.config.settings import HARD
from kdops.config.studies import SymmetrySettings
from kdops.data.dataset import Dataset
from kdops.papers import DEFAULT, PAPERS
from kdops.papers.szijarto_2020 import symmetry_findings
from kdops.study.checks import check_study
from kdops.study.summary import summarize
from kdops.sweeps.model import Sweep
from kdops.verdicts.answer import Answer
from kdops.verdicts.symmetry import symmetry_verdict
from pipelines.students import direct

if TYPE_CHECKING:
    from kdops.study.study import Study

check = check_study
"""Refuse what cannot be studied, before there is a run."""


def main(settings: SymmetrySettings, data: Dataset | None = None) -> None:
    """Run the study."""
    from kdops.study.open import open_study

    with open_study("symmetry", settings, data) as study:
        run(study)


def run(study: Study[SymmetrySettings]) -> Answer:
    """Reverse the best students and conclude."""
    from kdops.study.figures import symmetry_figure

    settings = study.settings
    everyone, students = direct(study)
    teachers = everyone.first(settings.reversed_seeds)
    sources = study.best(students.at(settings.sweeps["student"])).first(settings.reversed_seeds)
    back = study.distill(sources, "reversed", [HARD, *settings.sweeps["reversed"]], predictions=True)
    # On the very images that the reversed nets see, whatever the transfer setting.
    born_again = study.distill(
        teachers, "born-again", settings.sweeps["born-again"], images=study.transfer_images(sources.hops)
    )
    study.stop_if_planned()
    return study.conclude(
        "symmetry",
        answer(settings, teachers, sources, back, born_again),
        figures={"figure-2-symmetry.png": symmetry_figure(settings, teachers, sources, back, born_again)},
    )


def answer(settings: SymmetrySettings, teachers: Sweep, sources: Sweep, back: Sweep, born_again: Sweep) -> Answer:
    """Hold the reversed nets against the student, the teacher and the control."""
    verdict = symmetry_verdict(
        back.soft().table(),
        sources.accuracies(),
        teachers.accuracies(),
        settings.margin,
        temperatures=back.temperatures,
        born_again=born_again.table() if born_again.records else None,
        born_again_temperatures=born_again.temperatures,
        predictions=back.hard().accuracies(),
        select_on=settings.select_on,
    )
    same = PAPERS[DEFAULT].is_about(settings.origin)
    findings = symmetry_findings(verdict, back.soft().table(), margin=settings.margin, same_data=same)
    rows = [
        summarize("teacher", teachers),
        summarize(f"student, best by {settings.select_on}", sources),
        summarize("reversed", back.soft()),
        summarize("reversed, the student's decisions", back.hard()),
        *([summarize("born again from the teacher", born_again)] if born_again.records else []),
    ]
    return Answer.of(rows, verdict, findings)


if __name__ == "__main__":
    pipeline_main("symmetry", main)
