"""A chain: distilling from step to step, of any length and through any architectures, against distilling directly.

    mlflow run . -e chain -P steps="teacher>middle:mlp(hidden=32)>middle>student"
    mlflow run . -e chain -P steps="teacher>teacher>teacher" -P temperatures=1,4

The first step learns from labels; each later one is distilled from the best of the step before, at every temperature.
What each station on the way costs is told by the last step: its nets are distilled from every station and from the
first step directly, with the same seeds and temperatures, and start alike. A chain of three is what transitivity asks.
Cost on two cores: a chain of n steps trains 2 n - 3 sweeps, some ten seconds each on digits where the nets are dense.
"""

from kdops.cli.app import pipeline_main
from kdops.config.chain import ChainSettings, describe_path
from kdops.config.settings import HARD, Settings
from kdops.data.dataset import Dataset
from kdops.study.checks import check_study
from kdops.study.summary import summarize
from kdops.verdicts.answer import Answer

check = check_study
"""Refuse what cannot be studied, before there is a run."""


def main(settings: ChainSettings, data: Dataset | None = None) -> None:
    """Run the study."""
    from kdops.study.study import open_study

    with open_study("chain", settings, data) as study:
        run(study)


def run(study) -> None:
    """Walk along the chain and conclude."""
    from kdops.study.chain import ChainResult, direct, distill_along, is_of_generations, on_own_images, train_first

    settings, chain = study.settings, study.settings.chain
    temperatures = settings.temperatures
    first = train_first(study, chain)
    straight = direct(study, chain, first, [HARD, *temperatures])
    stations = distill_along(study, chain, first, temperatures)
    distilled = ()
    if any(station.on_labels for station in stations):
        # Nothing passes through a net that learned from labels alone: once more by the best distilled ones.
        distilled = distill_along(study, chain, first, temperatures, lambda models: study.best(models.soft()))
    # Where each hop has images of its own, the last step's baseline is not the one of the direct way.
    own = on_own_images(study, chain, stations[-1].best) if settings.transfer == "fresh" and stations else None
    best = study.best(stations[-1].onwards if stations else straight.soft())
    names = chain.generations() if is_of_generations(chain, settings.recipes) else chain.names()
    walked = ChainResult(names, first, straight, stations, distilled, best)
    study.conclude(
        f"chain {chain.title}",
        lambda: answer(study, walked, own),
        figures=lambda: {
            "chain-steps.png": figure_of_steps(settings, walked),
            "chain-temperatures.png": figure_over_temperature(settings, walked),
        },
    )


def answer(study, walked, own) -> Answer:
    """Put the table, the verdict and the change over generations together."""
    settings = study.settings
    start, *_, end = walked.names
    rows = [
        summarize(start, walked.first),
        summarize(f"{end}, hard labels", walked.direct.hard()),
        *([summarize(f"{end}, hard labels on its own images", own)] if own else []),
        summarize(f"{end}, direct", walked.direct.soft()),
        *rows_of_stations(walked, settings.select_on),
        summarize(f"{end}, best by {settings.select_on}", walked.best),
    ]
    remarks = [walked.change_told()] if walked.names == settings.chain.generations() else []
    if not walked.stations:
        return Answer(rows, remarks=["A chain of two steps is the direct way itself.", *remarks])
    return Answer(rows, verdict(settings, walked), remarks=remarks)


def rows_of_stations(walked, by: str):
    """Return the rows of each station and of the way through it, then those by distilled nets where they differ."""
    between, end = walked.names[1:-1], walked.names[-1]
    rows = []
    for number, (name, station) in enumerate(zip(between, walked.stations, strict=True), start=1):
        rows.append(summarize(f"{name}, best by {by}", station.best))
        rows.append(summarize(f"{end} via {describe_path(between[:number])}", station.onwards))
    if walked.distilled:
        rows += [
            summarize(f"{name}, best distilled", station.best)
            for name, station in zip(between, walked.distilled, strict=True)
        ]
        rows.append(summarize(f"{end} via the best distilled", walked.distilled[-1].onwards))
    return rows


def verdict(settings: Settings, walked):
    """Compare the way through each station with the direct one, the replicate as the unit."""
    from kdops.verdicts import chain_verdict

    direct, *ways = walked.ends
    return chain_verdict(
        [way.table() for way in ways],
        direct.table(),
        settings.margin,
        names=walked.names[1:-1],
        via_distilled=walked.distilled[-1].onwards.table() if walked.distilled else None,
        on_labels=[station.on_labels for station in walked.stations],
        select_on=settings.select_on,
    )


def figure_of_steps(settings: Settings, walked):
    """Draw the accuracy along the chain: the best of each step, and the last step distilled from each."""
    from kdops.reporting.figures import Curve, steps_figure

    return steps_figure(
        f"Accuracy along the chain, {settings.dataset}",
        walked.names,
        [
            Curve(f"best by {settings.select_on}", range(len(walked.bests)), columns(walked.bests)),
            Curve(
                f"{walked.names[-1]} distilled from this step, mean over T",
                range(len(walked.ends)),
                columns(walked.ends),
            ),
        ],
        {walked.names[0]: walked.first.accuracies()},
    )


def columns(sweeps) -> list[list[float]]:
    """Return the test accuracy of sweeps, mean over the temperatures, as ``[replicates, sweeps]``."""
    return [list(row) for row in zip(*(sweep.table().mean(axis=1) for sweep in sweeps), strict=True)]


def figure_over_temperature(settings: Settings, walked):
    """Draw the last step over temperature, direct and via each station."""
    from kdops.reporting.figures import Curve, temperature_figure

    start, *between, end = walked.names
    ways = ["direct", *(f"via {describe_path(between[:number])}" for number in range(1, len(walked.ends)))]
    curves = [Curve(way, sweep.temperatures, sweep.table()) for way, sweep in zip(ways, walked.ends, strict=True)]
    if walked.distilled:
        last = walked.distilled[-1].onwards
        curves.append(Curve("via the best distilled", last.temperatures, last.table()))
    return temperature_figure(
        f"{end.capitalize()}, direct and via each station, {settings.dataset}",
        curves,
        {start: walked.first.accuracies(), f"{end} on hard labels": walked.direct.hard().accuracies()},
    )


if __name__ == "__main__":
    pipeline_main("chain", main)
