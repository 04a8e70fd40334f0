"""The teacher: a convolutional net on hard labels, the source of everything else.

    mlflow run . -e teacher -P dataset=gtsrb

Cost on two cores: a few seconds a replicate on digits; a quarter of an hour a replicate on GTSRB.
"""

from kdops.cli.app import pipeline_main
from kdops.config.settings import Settings
from kdops.data.dataset import Dataset
from kdops.study.checks import check_study
from kdops.study.summary import summarize
from kdops.verdicts.answer import Answer

check = check_study
"""Refuse what cannot be studied, before there is a run."""


def main(settings: Settings, data: Dataset | None = None) -> None:
    """Run the study."""
    from kdops.study.study import open_study

    with open_study("teacher", settings, data) as study:
        run(study)


def run(study) -> None:
    """Train the teachers and conclude."""
    from kdops.papers.szijarto_2020 import teacher_findings

    teachers = study.train("teacher")
    study.conclude(
        "teacher",
        lambda: Answer(
            [summarize("teacher", teachers)],
            findings=teacher_findings(teachers.accuracies(), **study.measure()),
        ),
    )


if __name__ == "__main__":
    pipeline_main("teacher", main)
