"""The note of a failed study: models present, models missing, no verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kdops.sweeps.model import Model
from kdops.sweeps.unit import Unit
from kdops.utils.text import markdown_line, number_ranges


@dataclass
class CurrentSweep:
    """The sweep that a study is at, and how far it is; one for a study, its parts and its variations.

    Attributes:
        units: all models of the sweep.
        there: those that are stored, by fingerprint; whoever trains them adds to it.
    """

    units: Sequence[Unit] = ()
    there: Mapping[str, Model] = field(default_factory=dict)

    def begin(self, units: Sequence[Unit], there: Mapping[str, Model]) -> None:
        """Note what is trained from now on."""
        self.units, self.there = units, there

    def end(self) -> None:
        """Note that no sweep is under way."""
        self.begin((), {})

    def has(self) -> list[Model]:
        """Return the models of the sweep that are stored."""
        return list(self.there.values())

    def lacks(self) -> list[Model]:
        """Return the models of the sweep that are not."""
        return [unit.record for unit in self.units if unit.fingerprint not in self.there]


def describe_failure(models: Sequence[Model], underway: CurrentSweep) -> list[str]:
    """Return in sentences what a study that failed has, what it lacks, and that nothing is concluded from it.

    Args:
        models: those of the sweeps that are whole.
        underway: the sweep that it was at.
    """
    has = list({record.uri: record for record in [*models, *underway.has()]}.values())
    lacks = underway.lacks()
    stored = (
        f"It has {describe_models(has)}, which stay: the same command goes on from there."
        if has
        else "It has no models."
    )
    if lacks:
        missing = f"It lacks {describe_models(lacks)}; what would have come after was not begun."
    else:
        missing = "No sweep was under way when it failed; what would have come after was not begun."
    return [stored, missing, "There is no verdict: none is given from a part of the models."]


def failure_note(reason: str, sentences: Sequence[str]) -> str:
    """Return the Markdown note of a run that failed."""
    return "\n\n".join([f"**failed**: {markdown_line(reason)}", *map(markdown_line, sentences)])


def describe_models(records: Sequence[Model]) -> str:
    """Name models: how many of each chain, at which temperatures and of which seeds.

    ``6 x teacher>student (T = 0, 1, 4 of seeds 0, 1)``
    """
    chains: dict[str, list[Model]] = {}
    for record in records:
        chains.setdefault(record.chain, []).append(record)
    return ", ".join(f"{len(own)} x {chain} ({_places(own)})" for chain, own in chains.items())


def _places(records: Sequence[Model]) -> str:
    """Return which temperatures of which seeds; seeds that have the same ones together."""
    by_seed: dict[int, set[float]] = {}
    for record in records:
        by_seed.setdefault(record.seed, set()).add(record.temperature)
    alike: dict[tuple[float, ...], list[int]] = {}
    for seed, temperatures in sorted(by_seed.items()):
        # A model without a temperature, such as an ensemble, has nan, which equals nothing.
        alike.setdefault(tuple(sorted(t for t in temperatures if not math.isnan(t))), []).append(seed)
    places = []
    for common, seeds in alike.items():
        seeds_text = f"{'seed' if len(seeds) == 1 else 'seeds'} {number_ranges(seeds)}"
        # What learned from labels alone has no temperature to speak of.
        is_plain = common in ((), (0.0,)) and all(">" not in record.chain for record in records)
        places.append(seeds_text if is_plain or not common else f"T = {number_ranges(common)} of {seeds_text}")
    return "; ".join(places)
