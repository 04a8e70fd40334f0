"""How the error of a worker comes back to the study: as its kind and fields. One that is pickled would run code."""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from kdops.errors import DivergenceError, KdopsError, UsageError

KINDS: tuple[type[Exception], ...] = (UsageError, DivergenceError, KdopsError, MemoryError, OSError)
"""What arrives as itself; of the rest the text does."""


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
