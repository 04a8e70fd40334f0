"""Distillation along a chain: each step learns from the best of the step before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdops.config.chain import Chain
from kdops.config.recipes import Recipe
from kdops.config.settings import HARD, Settings
from kdops.sweeps.model import Sweep
from kdops.verdicts.intervals import mean_interval
from kdops.verdicts.phrases import percent, seen

if TYPE_CHECKING:
    from kdops.study.study import Study


@dataclass(frozen=True)
class Stage:
    """A step between the first and the last, and where the way through it leads.

    Attributes:
        models: all that was trained at it, hard labels and every temperature.
        best: the one of each replicate that the way goes on from.
        onwards: the last step's nets, distilled from it at every temperature.
    """

    models: Sweep
    best: Sweep
    onwards: Sweep

    @property
    def on_labels(self) -> tuple[int, ...]:
        """The seeds of the replicates whose way goes on from a net that learned from labels alone."""
        return tuple(record.seed for record in self.best.records if record.temperature == HARD)


@dataclass(frozen=True)
class ChainResult:
    """A chain that was walked, and the direct way beside it.

    Attributes:
        names: of the steps, for a reader.
        first: the models of the first step.
        direct: the last step's nets distilled from the first, hard labels among them.
        stations: see :func:`distill_along`.
        distilled: the stations of the way by the best distilled nets; empty where that is the same way.
        best: the best of the last step's nets at the end of the chain, one a replicate.
    """

    names: tuple[str, ...]
    first: Sweep
    direct: Sweep
    stations: tuple[Stage, ...]
    distilled: tuple[Stage, ...]
    best: Sweep

    @property
    def bests(self) -> tuple[Sweep, ...]:
        """The best of each step."""
        return self.first, *(station.best for station in self.stations), self.best

    @property
    def ends(self) -> tuple[Sweep, ...]:
        """The last step's distilled nets: those of the first step, then those of each station."""
        return self.direct.soft(), *(station.onwards for station in self.stations)

    def describe_change(self) -> str:
        """Return the accuracy of each step's best, and how far the last is from the first, untested."""
        accuracies = [sweep.accuracies() for sweep in self.bests]
        change = mean_interval(accuracies[-1] - accuracies[0], 0.9)
        reached = ", ".join(f"{name} {percent(values)}" for name, values in zip(self.names, accuracies, strict=True))
        return f"The best of each: {reached}; the last against the first: {seen(change)}, not tested."


def distill_along(
    study: Study[Settings],
    chain: Chain,
    first: Sweep,
    temperatures: Sequence[float],
    only_distilled: bool = False,
) -> tuple[Stage, ...]:
    """Distill along a chain, and from each station distill the last step too.

    Args:
        study: trains what is missing.
        first: the models of the first one, one a replicate.
        temperatures: of every distillation; at a station hard labels are trained beside.
        only_distilled: go on from the best distilled model of a station; else from the best of all.

    Returns:
        The stations in order; the last one's ``onwards`` is the whole chain's end. None for a chain of two, which is
        the direct way itself.
    """
    stations: list[Stage] = []
    sources = first
    for place in range(1, chain.last):
        models = _distill(study, chain, sources, place, [HARD, *temperatures])
        sources = study.best(models.soft() if only_distilled else models)
        onwards = _distill(study, chain, sources, chain.last, temperatures, place)
        stations.append(Stage(models, sources, onwards))
    return tuple(stations)


def train_first(study: Study[Settings], chain: Chain) -> Sweep:
    """Train the first step on labels, on the teacher's images."""
    stream = chain.streams()[0]
    return _with_recipe(study, chain, 0, chain.role_at(0), stream).train(chain.role_at(0), stream)


def distill_directly(study: Study[Settings], chain: Chain, first: Sweep, temperatures: Sequence[float]) -> Sweep:
    """Distill the last step straight from the first; 0 is hard labels."""
    return _distill(study, chain, first, chain.last, temperatures, 0)


def on_own_images(study: Study[Settings], chain: Chain, sources: Sweep) -> Sweep:
    """Train the last step on hard labels, on the images that it has at the end of the whole chain."""
    return _distill(study, chain, sources, chain.last, [HARD])


def is_of_generations(chain: Chain, recipes: Mapping[str, Recipe]) -> bool:
    """Return whether all steps have one architecture, so that each is a generation of the same net."""
    return len({chain.recipe_at(place, recipes).architecture for place in range(len(chain.steps))}) == 1


def _distill(
    study: Study[Settings],
    chain: Chain,
    sources: Sweep,
    place: int,
    temperatures: Sequence[float],
    source: int | None = None,
) -> Sweep:
    """Distill a step from models of the step before, or of the step ``source``."""
    role = chain.role_at(place, source)
    # The last step's nets are those of every other study: their streams are their role's, whatever they learn from.
    stream = role if place == chain.last else chain.streams()[place]
    return _with_recipe(study, chain, place, role, stream).distill(sources, role, temperatures, stream=stream)


def _with_recipe(study: Study[Settings], chain: Chain, place: int, role: str, stream: str) -> Study[Settings]:
    """Return the study with a step's recipe for its role: what is compared is trained alike, whatever its role."""
    recipe = chain.recipe_at(place, study.settings.recipes)
    return study.with_recipes(**{role: recipe, stream: recipe})
