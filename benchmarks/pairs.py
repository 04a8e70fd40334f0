"""Two things measured in turn, and the figures that come of it."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

__all__ = ["Figure", "Options", "in_turn", "seconds_of"]


@dataclass(frozen=True)
class Options:
    """What was asked for.

    Attributes:
        pairs: how often both things of a ratio are measured.
        images: images of an epoch of the sweep; other parts take a stated share of them.
        device: ``cpu`` or ``cuda``.
        seeds: how many replicates the studies on digits have.
    """

    pairs: int = 5
    images: int = 16_000
    device: str = "cpu"
    seeds: int = 1


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        part: the benchmark.
        what: what is divided by what.
        ratios: one for each pair.
        aim: what it should be; empty where nothing is aimed at.
        told: the absolute figures behind it, and what a reader must know.
    """

    part: str
    what: str
    ratios: tuple[float, ...]
    aim: str = ""
    told: str = ""

    @property
    def median(self) -> float:
        """The middle one of the ratios."""
        return statistics.median(self.ratios)

    def cells(self) -> list[str]:
        """Return its cells: part, what, median, range, pairs, aim, told."""
        low, high = min(self.ratios), max(self.ratios)
        pairs = str(len(self.ratios))
        return [self.part, self.what, f"{self.median:.3g}", f"{low:.3g} to {high:.3g}", pairs, self.aim, self.told]

    def as_dict(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {**asdict(self), "median": self.median, "minimum": min(self.ratios), "maximum": max(self.ratios)}


def seconds_of(action: Callable[[], object], device: str = "cpu") -> float:
    """Return the wall seconds of an action; of one on a graphics processor until that is done."""
    if device == "cpu":
        started = time.perf_counter()
        action()
        return time.perf_counter() - started
    import torch

    torch.cuda.synchronize()
    started = time.perf_counter()
    action()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def in_turn(pairs: int, *measured: Callable[[], float]) -> list[tuple[float, ...]]:
    """Measure several things in turn, A B A B, so that a machine's drift meets all of them.

    Args:
        pairs: how often each.
        *measured: each gives its seconds.

    Returns:
        For each thing its seconds, round by round.
    """
    rounds = []
    for number in range(pairs):
        # Every other round the other way round, so that none is always first.
        places = list(range(len(measured)))[:: -1 if number % 2 else 1]
        found = {place: measured[place]() for place in places}
        rounds.append([found[place] for place in range(len(measured))])
        print(f"  round {number + 1} of {pairs}: {', '.join(f'{s:.3f}' for s in rounds[-1])} s", file=sys.stderr)
    return [tuple(one) for one in zip(*rounds, strict=True)]
