"""The learning rate of every step of a training."""

from __future__ import annotations

from functools import lru_cache

__all__ = ["one_cycle"]


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
