"""How the epochs of a training are shared out among phases, and the learning rate of every step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from kdops.config.recipe_settings import ONE_CYCLE, SCHEDULES
from kdops.config.specs import parse_spec
from kdops.distillation.method import Phase
from kdops.errors import UsageError


@dataclass(frozen=True)
class Stage:
    """A phase with the epochs that it has, from ``start`` up to ``stop``."""

    phase: Phase
    start: int
    stop: int


def stages_of(phases: Sequence[Phase], epochs: int) -> list[Stage]:
    """Share out the epochs; every phase has at least one. Raises UsageError if there are fewer epochs than phases."""
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
def rates_of(schedule: str, steps: int, highest: float = 1.0) -> tuple[float, ...]:
    """Return the rate of each step. Known beforehand, it can lie wherever the step is taken.

    ``one-cycle`` is :func:`_one_cycle`. Of the others the rate rises linearly to the highest over ``warmup`` of the
    steps; then ``cosine`` falls as half a cosine to zero (Loshchilov and Hutter, 2017, without restarts), ``step``
    is multiplied by ``factor`` at each of the shares ``at`` of all steps, and ``constant`` stays.

    Args:
        schedule: text of ``SCHEDULES``.
        steps: of the whole training, at least 1.
        highest: the highest rate.
    """
    name, options = parse_spec(schedule, "schedule", SCHEDULES)
    if name == ONE_CYCLE:
        return _one_cycle(steps, highest, options["warmup"])
    rising = round(options["warmup"] * steps)

    def falling(step: int) -> float:
        if name == "cosine":
            return 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))
        if name == "step":
            return options["factor"] ** sum(step >= round(share * steps) for share in options["at"])
        return 1.0

    return tuple(highest * ((step + 1) / (rising + 1) if step < rising else falling(step)) for step in range(steps))


def _one_cycle(steps: int, highest: float, warmup: float) -> tuple[float, ...]:
    """Return the rate of each step of a one-cycle schedule (Smith and Topin, 2019).

    These are the rates of :class:`torch.optim.lr_scheduler.OneCycleLR`, to the last bit.

    Args:
        steps: of the whole training, at least 1.
        highest: the highest rate.
        warmup: share of the steps over which it rises.
    """
    import torch

    # Run ahead once, on an optimizer of nothing.
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=highest)
    # A rise of one step is none: PyTorch divides by its length less one.
    warmup = 0.0 if warmup * steps == 1 else warmup
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, highest, total_steps=steps, pct_start=warmup, cycle_momentum=False
    )
    rates = []
    for _ in range(steps):
        rates.append(float(schedule.get_last_lr()[0]))
        optimizer.step()
        schedule.step()
    return tuple(rates)
