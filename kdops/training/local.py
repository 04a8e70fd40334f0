"""The engine ``local``: one pass after another in the study's own process, on the very arrays that it was given."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from functools import partial

import numpy as np

from kdops.training.engine import Report, perform
from kdops.training.order import Done, Order


class LocalEngine:
    """Carries out orders in this process, the only worker.

    Args:
        workers: one.
        device: known from each order.
    """

    def __init__(self, workers: int = 1, device: str = ""):
        self.workers = 1
        self._arrays: dict[str, np.ndarray] = {}

    def put(self, digest: str, array: np.ndarray) -> None:
        """Keep an array, without a copy."""
        self._arrays[digest] = array

    def run(self, orders: Iterable[Order], report: Report) -> Generator[Done, None, None]:
        """Carry out orders in their sequence, each when the one before it has been taken."""
        for order in orders:
            yield perform(order, self._arrays, partial(report, order.digest))

    def close(self) -> None:
        """Forget the arrays."""
        self._arrays.clear()
