"""Calls of MLflow that another process may get in the way of at the same moment."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from mlflow.exceptions import MlflowException

__all__ = ["retry_on_conflict"]

TRIES = 20
SECONDS = 0.05

CLASHES = ("IntegrityError", "UniqueViolation", "Model Version creation error")
"""What a database says, by way of MLflow, to the second of two who make the same row."""

Answer = TypeVar("Answer")


def retry_on_conflict(call: Callable[..., Answer], *what: object, **how: object) -> Answer:
    """Call a method of MLflow's client, again where another process was quicker.

    MLflow looks whether a data set, or a version of this number, is there, and then makes it; of two that do so at the
    same time one fails, with nothing written. The second time it finds what the other one made.

    Args:
        call: the method; of what it does nothing is done where it fails.
        *what: its arguments.
        **how: its named arguments.

    Raises:
        MlflowException: it failed for another reason, or again and again.
    """
    for left in reversed(range(TRIES)):
        try:
            return call(*what, **how)
        except MlflowException as error:
            if not left or not any(clash in str(error) for clash in CLASHES):
                raise
        # Not all at the same time again.
        time.sleep(random.uniform(0, SECONDS))
    raise AssertionError("the last try returns or raises")
