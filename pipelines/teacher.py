"""The teacher: a convolutional net on hard labels, the source of everything else.

    mlflow run . -e teacher -P dataset=gtsrb

Cost on two cores: a few seconds a replicate on digits; a quarter of an hour a replicate on GTSRB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdops.cli.app import pipeline_main
from kdops.config.settings import Settings
from kdops.data.dataset import Dataset
from kdops.papers import DEFAULT, PAPERS
from kdops.papers.szijarto_2020 import teacher_findings
from kdops.study.checks import check_study
from kdops.study.summary import summarize
from kdops.verdicts.answer import Answer

if TYPE_CHECKING:
    from kdops.study.study import Study

check = check_study
"""Refuse what cannot be studied, before there is a run."""


def main(settings: Settings, data: Dataset | None = None) -> None:
    """Run the study."""
    from kdops.study.open import open_study

    with open_study("teacher", settings, data) as study:
        run(study)


def run(study: Study[Settings]) -> Answer:
    """Train the teachers and conclude."""
    settings = study.settings
    teachers = study.train("teacher")
    study.stop_if_planned()
    same = PAPERS[DEFAULT].is_about(settings.origin)
    findings = teacher_findings(teachers.accuracies(), margin=settings.margin, same_data=same)
    return study.conclude("teacher", Answer.of([summarize("teacher", teachers)], findings=findings))


if __name__ == "__main__":
    pipeline_main("teacher", main)
