"""The short way to a small model: one student, one source, a verdict and a champion.

    mlflow run . -e distill -P dataset=imagefolder:signs
    mlflow run . -e distill -P source=models:/mine/3

The source is the model given, else the best registered teacher of these data (of the teacher's settings, where they are
not the usual ones), else a teacher that is trained once. The student learns from it at a few temperatures, with three
seeds, beside the same student on hard labels. The verdict is that of ``students``, about this one source: the
replicates differ in the student's seed alone.
Cost on two cores: seconds on digits; on other data that of one teacher and twelve students.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdops.cli.app import pipeline_main
from kdops.config.studies import OneSourceSettings
from kdops.data.dataset import Dataset
from kdops.verdicts.answer import Answer
from pipelines import students

if TYPE_CHECKING:
    from kdops.study.study import Study

check = students.check
"""Refuse what cannot be studied, before there is a run."""


def main(settings: OneSourceSettings, data: Dataset | None = None) -> None:
    """Run the study."""
    from kdops.study.open import open_study

    with open_study("distill", settings, data) as study:
        run(study)


def run(study: Study[OneSourceSettings]) -> Answer:
    """Distill the students from the one source, and conclude."""
    return students.run_from_source(study, "distill")


if __name__ == "__main__":
    pipeline_main("distill", main)
