"""Transitivity: distilling through a middle net against distilling directly (section 4.3, figures 4 and 5).

    mlflow run . -e transitivity -P dataset=gtsrb

The unit of replication is the whole chain, teacher included. The answer is for the best middle net by
validation; the last step is repeated from the worst one, since the paper makes a good middle its condition, and
from the best *distilled* one where the best of all learned from labels, since nothing of the teacher passes there.
It is the shortest chain with a station on its way, walked as :mod:`pipelines.chain` walks all of them.
Cost on two cores: under a minute on digits; about an hour for three replicates on GTSRB.
"""

from kdops.cli.app import pipeline_main
from kdops.config.chain import Chain, parse_steps
from kdops.config.settings import HARD, Settings
from kdops.data.dataset import Dataset
from kdops.study.checks import check_study
from kdops.study.summary import summarize
from kdops.verdicts.answer import Answer
from pipelines.students import direct as direct_students

CHAIN = Chain(parse_steps("teacher>middle>student"))


check = check_study
"""Refuse what cannot be studied, before there is a run."""


def main(settings: Settings, data: Dataset | None = None) -> None:
    """Run the study."""
    from kdops.study.study import open_study

    with open_study("transitivity", settings, data) as study:
        run(study)


def run(study) -> None:
    """Distill through the middle nets and conclude."""
    from kdops.study.chain import distill_along

    settings = study.settings
    temperatures = settings.sweeps["middle"]
    teachers, students = direct_students(study)
    direct = students.at([HARD, *temperatures])
    (station,) = distill_along(study, CHAIN, teachers, temperatures)
    middles, best, via = station.models, station.best, station.onwards
    distilled, worst = study.best(middles.soft()), study.worst(middles)
    via_distilled = None if distilled == best else study.distill(distilled, "student", temperatures)
    via_worst = study.distill(worst, "student", temperatures)
    rows = lambda: [  # noqa: E731
        summarize("teacher", teachers),
        summarize("student, hard labels", direct.hard()),
        summarize("students, direct", direct.soft()),
        summarize("middle, hard labels", middles.hard()),
        summarize("middles, distilled", middles.soft()),
        summarize(f"middle, best by {settings.select_on}", best),
        summarize("students via the best middle", via),
        *rows_apart(distilled, via_distilled),
        summarize(f"middle, worst by {settings.select_on}", worst),
        summarize("students via the worst middle", via_worst),
    ]
    study.conclude(
        "transitivity",
        lambda: answer(study, rows(), verdict(settings, direct, via, via_distilled, via_worst, best), middles, best),
        figures=lambda: {
            "figure-4-middles.png": figure_4(settings, teachers, middles),
            "figure-5-transitivity.png": figure_5(settings, teachers, direct, via, via_distilled, via_worst, best),
        },
    )


def answer(study, rows, verdict, middles, best) -> Answer:
    """Put the table, the verdict and the findings together."""
    from kdops.papers.szijarto_2020 import transitivity_findings

    hard, soft = middles.hard().accuracies(), middles.soft().table()
    chosen = [record.temperature for record in best.records]
    findings = transitivity_findings(verdict, hard, soft, best_temperatures=chosen, **study.measure())
    return Answer(rows, verdict, findings)


def rows_apart(distilled, via_distilled):
    """Return the rows of the best distilled middle, where it is not the best of all."""
    if via_distilled is None:
        return []
    return [summarize("middle, best distilled", distilled), summarize("students via the best distilled", via_distilled)]


def verdict(settings: Settings, direct, via, via_distilled, via_worst, best):
    """Compare via the middle with direct, the replicate as the unit."""
    from kdops.verdicts import transitivity_verdict

    return transitivity_verdict(
        via.table(),
        direct.soft().table(),
        settings.margin,
        middle=best.accuracies(),
        via_distilled=None if via_distilled is None else via_distilled.table(),
        via_worst=via_worst.table(),
        middle_temperatures=[record.temperature for record in best.records],
        select_on=settings.select_on,
    )


def figure_4(settings: Settings, teachers, middles):
    """Draw the accuracy of the middle nets over temperature, hard labels at T = 0."""
    from kdops.reporting.figures import Curve, temperature_figure

    return temperature_figure(
        f"Middle nets distilled from the teacher, {settings.dataset}",
        [Curve("middle", (HARD, *middles.temperatures), middles.table())],
        {"teacher": teachers.accuracies()},
    )


def figure_5(settings: Settings, teachers, direct, via, via_distilled, via_worst, best):
    """Draw via the middle against direct over temperature, the baselines as level lines."""
    from kdops.reporting.figures import Curve, temperature_figure

    temperatures = via.temperatures
    return temperature_figure(
        f"Students via the middle net and direct, {settings.dataset}",
        [
            Curve("via the best middle", temperatures, via.table()),
            Curve("direct", temperatures, direct.soft().table()),
            *([Curve("via the best distilled middle", temperatures, via_distilled.table())] if via_distilled else []),
            Curve("via the worst middle", temperatures, via_worst.table()),
        ],
        {
            "teacher": teachers.accuracies(),
            "best middle": best.accuracies(),
            "student on hard labels": direct.hard().accuracies(),
        },
    )


if __name__ == "__main__":
    pipeline_main("transitivity", main)
