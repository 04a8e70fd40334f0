"""What the workers of all engines have in common: their environment, and how what they fail with comes back.

A worker is given an order as text and returns its result as bytes. An error comes back as its kind and fields: one that
is pickled would run code.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections import Counter
from collections.abc import Sequence

from kdops.errors import DivergenceError, KdopsError, UsageError
from kdops.training.order import Order
from kdops.utils.process import LAUNCHER

ATTEMPTS = 3
"""How often an order is begun whose worker dies."""

KINDS: tuple[type[Exception], ...] = (UsageError, DivergenceError, KdopsError, MemoryError, OSError)
"""What arrives as itself; of the rest the text does."""


def worker_environment(threads: int, gpu: str = "") -> dict[str, str]:
    """Return the environment of a worker: nothing of MLflow's, one device, and the modules that this process finds.

    Args:
        threads: how many it computes with.
        gpu: the only GPU that it sees, as ``CUDA_VISIBLE_DEVICES`` names it; empty for none.
    """
    kept = {name: text for name, text in os.environ.items() if not is_private(name)}
    path = os.pathsep.join(folder for folder in sys.path if folder)
    return {**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": gpu}


def is_private(name: str) -> bool:
    """Return whether a variable is the study's alone: the store, its password, and who launched it."""
    return name.startswith("MLFLOW_") or name == LAUNCHER


def fields_of(error: Exception) -> tuple[str, list[object]]:
    """Return the kind of an error and its fields, plain values."""
    if isinstance(error, UsageError):
        return "UsageError", [error.parameter, str(error.value), error.allowed]
    if isinstance(error, OSError) and error.errno is not None:
        return "OSError", [error.errno, error.strerror or "", str(error.filename or "")]
    kind = next((kind.__name__ for kind in KINDS[1:4] if isinstance(error, kind)), "RuntimeError")
    return kind, [str(error)] if kind != "RuntimeError" else [
        f"{type(error).__name__}: {error}",
        traceback.format_exc(),
    ]


def restored(kind: str, fields: Sequence[object]) -> Exception:
    """Return the error of a kind and fields; one that is not known, a fault of kdops, has the worker's traceback."""
    for known in KINDS:
        if kind == known.__name__:
            return known(*fields)
    text, trace = fields
    error = RuntimeError(text)
    error.add_note(f"on a worker:\n{trace}")
    return error


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
