"""How the epochs of a training are shared out among phases, and the learning rate of every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from kdops.distillation.method import Phase
from kdops.errors import UsageError

__all__ = ["Stage", "one_cycle", "stages_of"]


@dataclass(frozen=True)
class Stage:
    """A phase with the epochs that it has, from ``start`` up to ``stop``."""

    phase: Phase
    start: int
    stop: int


def stages_of(phases: Sequence[Phase], epochs: int) -> list[Stage]:
    """Share out the epochs; every phase has at least one.

    Raises:
        UsageError: there are fewer epochs than phases.
    """
    if epochs < len(phases):
        named = " and ".join(phase.name for phase in phases)
        raise UsageError("epochs", epochs, f"must be at least {len(phases)}: the method has the phases {named}")
    stages, start, share = [], 0, 0.0
    for place, phase in enumerate(phases):
        share += phase.share
        stop = min(max(round(share * epochs), start + 1), epochs - (len(phases) - 1 - place))
        stages.append(Stage(phase, start, stop))
        start = stop
    return stages


@lru_cache(maxsize=64)
def one_cycle(steps: int, highest: float = 1.0) -> tuple[float, ...]:
    """Return the rate of each step of a one-cycle schedule (Smith and Topin, 2019).

    These are the rates of :class:`torch.optim.lr_scheduler.OneCycleLR`, to the last bit. Known beforehand they can lie
    wherever the steps are taken, and a training goes on at any of them.

    Args:
        steps: of the whole training, at least 1.
        highest: the highest rate.
    """
    import torch

    # Run ahead once, on an optimizer of nothing.
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=highest)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, highest, total_steps=steps, cycle_momentum=False)
    rates = []
    for _ in range(steps):
        rates.append(float(schedule.get_last_lr()[0]))
        optimizer.step()
        schedule.step()
    return tuple(rates)
