"""A paper: every claim of it as an experiment, with a report that says claim by claim what replicates.

    mlflow run . -e paper
    mlflow run . -e paper -P paper=szijarto-2020 -P dataset=digits

``kdops papers`` lists the papers with their claims and costs. The experiment of each is a file of ``pipelines/papers``,
which also states the claims and when each counts as replicated; ``dry_run=true`` shows what it would train.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdops.cli.app import pipeline_main
from kdops.config.papers import PAPERS
from kdops.config.studies import PaperSettings
from kdops.data.dataset import Dataset
from kdops.errors import UsageError
from kdops.study.checks import check_study
from kdops.verdicts.answer import Answer

if TYPE_CHECKING:
    from kdops.study.study import Study


def check(settings: PaperSettings, data: Dataset) -> None:
    """Refuse what cannot be studied, before there is a run.

    Raises:
        UsageError: temperatures are missing that a claim of the paper is tested at, or settings or data are refused.
    """
    check_study(settings, data)
    experiment = PAPERS[settings.paper].load()
    getattr(experiment, "check", lambda *_: None)(settings, data)
    needed = getattr(experiment, "NEEDED", ())
    if not set(needed) <= set(settings.temperatures):
        shown = ",".join(f"{t:g}" for t in settings.temperatures)
        wanted = ", ".join(f"{t:g}" for t in needed)
        raise UsageError("temperatures", shown, f"must have {wanted}, at which claims of {settings.paper} are tested")


def main(settings: PaperSettings, data: Dataset | None = None) -> None:
    """Run the study."""
    from kdops.study.open import open_study

    with open_study("paper", settings, data) as study:
        run(study)


def run(study: Study[PaperSettings]) -> Answer:
    """Run the experiment of the paper."""
    answer: Answer = PAPERS[study.settings.paper].load().run(study)
    return answer


if __name__ == "__main__":
    pipeline_main("paper", main)
