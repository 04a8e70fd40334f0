"""Transitivity: distilling through a middle net against distilling directly (section 4.3, figures 4 and 5).

    mlflow run . -e transitivity -P dataset=gtsrb

The unit of replication is the whole chain, teacher included. The answer is for the best middle net by
validation; the last step is repeated from the worst one, since the paper makes a good middle its condition, and
from the best *distilled* one where the best of all learned from labels, since nothing of the teacher passes there.
It is the shortest chain with a station on its way, walked as :mod:`pipelines.chain` walks all of them.
Cost on two cores: under a minute on digits; about an hour for three replicates on GTSRB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdops.cli.app import pipeline_main
from kdops.config.chain import Chain, parse_steps
from kdops.config.settings import HARD, Settings
from kdops.data.dataset import Dataset
from kdops.papers import DEFAULT, PAPERS
from kdops.papers.szijarto_2020 import transitivity_findings
from kdops.study.chain import distill_along
from kdops.study.checks import check_study
from kdops.study.summary import summarize
from kdops.verdicts.answer import Answer
from kdops.verdicts.transitivity import transitivity_verdict
from pipelines.students import direct as direct_students

if TYPE_CHECKING:
    from kdops.study.study import Study

CHAIN = Chain(parse_steps("teacher>middle>student"))

check = check_study
"""Refuse what cannot be studied, before there is a run."""


def main(settings: Settings, data: Dataset | None = None) -> None:
    """Run the study."""
    from kdops.study.open import open_study

    with open_study("transitivity", settings, data) as study:
        run(study)


def run(study: Study[Settings]) -> Answer:
    """Distill through the middle nets and conclude."""
    from kdops.study.figures import middles_figure, transitivity_figure

    settings = study.settings
    temperatures = settings.sweeps["middle"]
    teachers, students = direct_students(study)
    direct = students.at([HARD, *temperatures])
    (station,) = distill_along(study, CHAIN, teachers, temperatures)
    middles, best, via = station.models, station.best, station.onwards
    distilled, worst = study.best(middles.soft()), study.worst(middles)
    via_distilled = study.distill(distilled, "student", () if distilled == best else temperatures)
    via_worst = study.distill(worst, "student", temperatures)
    study.stop_if_planned()
    rows = [
        summarize("teacher", teachers),
        summarize("student, hard labels", direct.hard()),
        summarize("students, direct", direct.soft()),
        summarize("middle, hard labels", middles.hard()),
        summarize("middles, distilled", middles.soft()),
        summarize(f"middle, best by {settings.select_on}", best),
        summarize("students via the best middle", via),
    ]
    if via_distilled.records:
        rows += [
            summarize("middle, best distilled", distilled),
            summarize("students via the best distilled", via_distilled),
        ]
    rows += [
        summarize(f"middle, worst by {settings.select_on}", worst),
        summarize("students via the worst middle", via_worst),
    ]
    temperatures_of_best = [model.temperature for model in best.records]
    verdict = transitivity_verdict(
        via.table(),
        direct.soft().table(),
        settings.margin,
        middle=best.accuracies(),
        via_distilled=via_distilled.table() if via_distilled.records else None,
        via_worst=via_worst.table(),
        middle_temperatures=temperatures_of_best,
        select_on=settings.select_on,
    )
    findings = transitivity_findings(
        verdict,
        middles.hard().accuracies(),
        middles.soft().table(),
        best_temperatures=temperatures_of_best,
        margin=settings.margin,
        same_data=PAPERS[DEFAULT].is_about(settings.origin),
    )
    return study.conclude(
        "transitivity",
        Answer.of(rows, verdict, findings),
        figures={
            "figure-4-middles.png": middles_figure(settings, teachers, middles),
            "figure-5-transitivity.png": transitivity_figure(
                settings, teachers, direct, best, via, via_distilled, via_worst
            ),
        },
    )


if __name__ == "__main__":
    pipeline_main("transitivity", main)
