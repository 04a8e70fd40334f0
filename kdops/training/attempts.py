"""Counts attempts: an order whose worker died is begun again, and after some deaths given up."""

from __future__ import annotations

from collections import Counter

from kdops.errors import KdopsError
from kdops.training.order import Order

ATTEMPTS = 3
"""How often an order is begun whose worker dies."""


class Attempts:
    """Counts how often each order was begun: kdops repeats it, not the engine, so that all engines do so alike."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, order: Order) -> int:
        """Return the number of the attempt that begins, from 1."""
        self._begun[order.digest] += 1
        return self._begun[order.digest]

    def lost(self, order: Order, why: str) -> None:
        """Note that a worker died of an order. Raises KdopsError if it was begun often enough."""
        if self._begun[order.digest] >= ATTEMPTS:
            raise KdopsError(f"{ATTEMPTS} workers died while they trained {_name(order)}; the last one {why}")


def _name(order: Order) -> str:
    """Return what an order trains, in a few words."""
    (group, temperature), others = order.members[0], len(order.members) - 1
    first = f"{order.role} {order.recipe.architecture} seed={group.seed} T={temperature:g}"
    return f"{first} and {others} more" if others else first
