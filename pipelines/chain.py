"""A chain: distilling from step to step, of any length and through any architectures, against distilling directly.

    mlflow run . -e chain -P steps="teacher>middle:mlp(hidden=32)>middle>student"
    mlflow run . -e chain -P steps="teacher>teacher>teacher" -P temperatures=1,4

The first step learns from labels; each later one is distilled from the best of the step before, at every temperature.
What each station on the way costs is seen at the last step: its nets are distilled from every station and from the
first step directly, with the same seeds and temperatures, and start alike. A chain of three is what transitivity asks.
Cost on two cores: a chain of n steps trains 2 n - 3 sweeps, some ten seconds each on digits where the nets are dense.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdops.cli.app import pipeline_main
from kdops.config.chain import ChainSettings, describe_path
from kdops.config.settings import HARD
from kdops.data.dataset import Dataset
from kdops.study.chain import (
    ChainResult,
    distill_along,
    distill_directly,
    is_of_generations,
    on_own_images,
    train_first,
)
from kdops.study.checks import check_study
from kdops.study.summary import summarize
from kdops.sweeps.model import Sweep
from kdops.verdicts.answer import Answer, Row
from kdops.verdicts.chain import chain_verdict
from kdops.verdicts.claims import Verdict

if TYPE_CHECKING:
    from kdops.study.study import Study

check = check_study
"""Refuse what cannot be studied, before there is a run."""


def main(settings: ChainSettings, data: Dataset | None = None) -> None:
    """Run the study."""
    from kdops.study.open import open_study

    with open_study("chain", settings, data) as study:
        run(study)


def run(study: Study[ChainSettings]) -> Answer:
    """Distill along the chain and conclude."""
    from kdops.study.figures import chain_steps_figure, chain_temperatures_figure

    settings, chain = study.settings, study.settings.chain
    temperatures = settings.temperatures
    first = train_first(study, chain)
    direct = distill_directly(study, chain, first, [HARD, *temperatures])
    stations = distill_along(study, chain, first, temperatures)
    # Nothing passes through a net that learned from labels alone: once more by the best distilled ones.
    apart = any(station.on_labels for station in stations)
    distilled = distill_along(study, chain, first, temperatures, only_distilled=True) if apart else ()
    # Where each hop has images of its own, the last step's baseline is not the one of the direct way.
    has_own = settings.transfer == "fresh" and bool(stations)
    own = on_own_images(study, chain, stations[-1].best) if has_own else Sweep(())
    best = study.best(stations[-1].onwards if stations else direct.soft())
    study.stop_if_planned()
    names = chain.generations() if is_of_generations(chain, settings.recipes) else chain.names()
    result = ChainResult(names, first, direct, stations, distilled, best)
    return study.conclude(
        f"chain {chain.title}",
        answer(settings, result, own),
        figures={
            "chain-steps.png": chain_steps_figure(settings, result),
            "chain-temperatures.png": chain_temperatures_figure(settings, result),
        },
    )


def answer(settings: ChainSettings, result: ChainResult, own: Sweep) -> Answer:
    """Put the table, the verdict and the change over generations together.

    Args:
        settings: of the study.
        result: the chain.
        own: the last step on hard labels, on the images that it has at the end of the chain; may be empty.
    """
    start, *_, end = result.names
    rows = [
        summarize(start, result.first),
        summarize(f"{end}, hard labels", result.direct.hard()),
        *([summarize(f"{end}, hard labels on its own images", own)] if own.records else []),
        summarize(f"{end}, direct", result.direct.soft()),
        *rows_of_stations(result, settings.select_on),
        summarize(f"{end}, best by {settings.select_on}", result.best),
    ]
    remarks = [result.describe_change()] if result.names == settings.chain.generations() else []
    if not result.stations:
        return Answer.of(rows, remarks=["A chain of two steps is the direct way itself.", *remarks])
    return Answer.of(rows, verdict(settings, result), remarks=remarks)


def rows_of_stations(result: ChainResult, by: str) -> list[Row]:
    """Return the rows of each station and of the way through it, then those by distilled nets where they differ."""
    between, end = result.names[1:-1], result.names[-1]
    rows = []
    for number, (name, station) in enumerate(zip(between, result.stations, strict=True), start=1):
        rows.append(summarize(f"{name}, best by {by}", station.best))
        rows.append(summarize(f"{end} via {describe_path(between[:number])}", station.onwards))
    if result.distilled:
        rows += [
            summarize(f"{name}, best distilled", station.best)
            for name, station in zip(between, result.distilled, strict=True)
        ]
        rows.append(summarize(f"{end} via the best distilled", result.distilled[-1].onwards))
    return rows


def verdict(settings: ChainSettings, result: ChainResult) -> Verdict:
    """Compare the way through each station with the direct one, the replicate as the unit."""
    direct, *ways = result.ends
    return chain_verdict(
        [way.table() for way in ways],
        direct.table(),
        settings.margin,
        names=result.names[1:-1],
        via_distilled=result.distilled[-1].onwards.table() if result.distilled else None,
        on_labels=[station.on_labels for station in result.stations],
        select_on=settings.select_on,
    )


if __name__ == "__main__":
    pipeline_main("chain", main)
