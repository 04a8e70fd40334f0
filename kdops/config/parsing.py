"""How the text of a parameter is read: each check gives the value, or one line that says what is allowed."""

from __future__ import annotations

import math
import re
from collections.abc import Collection

from kdops.errors import UsageError

__all__ = ["boolean", "line", "one_of", "real", "whole"]


def line(name: str, value: str, most: int) -> str:
    """Return text of one line that can be printed, also none.

    Raises:
        UsageError: it has a line break or a control character, or more than ``most`` characters.
    """
    if not value.isprintable():
        raise UsageError(name, repr(value[:60]), "must be one line without control characters")
    if len(value) > most:
        raise UsageError(name, f"{value[:20]}...", f"has {len(value)} characters; at most {most} are kept")
    return value


def one_of(name: str, value: str, allowed: Collection[str]) -> str:
    """Return a word that is one of the allowed.

    Raises:
        UsageError: it is another.
    """
    if value not in allowed:
        raise UsageError(name, value or "(empty)", f"must be one of {', '.join(allowed)}")
    return value


def whole(name: str, value: str, low: int, high: int) -> int:
    """Read a whole number from ``low`` to ``high``.

    Raises:
        UsageError: it is none.
    """
    if not re.fullmatch(r"[+-]?\d{1,12}", value) or not low <= int(value) <= high:
        raise UsageError(name, value or "(empty)", f"must be a whole number from {low} to {high}")
    return int(value)


def real(name: str, value: str, low: float, high: float, *, open_low: bool = False) -> float:
    """Read a number from ``low``, or above it, to ``high``.

    Raises:
        UsageError: it is none.
    """
    try:
        # Python alone reads 1_000 as a number.
        number = math.nan if "_" in value else float(value)
    except ValueError:
        number = math.nan
    if not (low < number if open_low else low <= number) or not number <= high:
        bound = f"above {low:g}" if open_low else f"from {low:g}"
        raise UsageError(name, value or "(empty)", f"must be a number {bound} and at most {high:g}")
    return number


def boolean(name: str, value: str) -> bool:
    """Read ``true`` or ``false``.

    Raises:
        UsageError: it is neither.
    """
    lowered = value.lower()
    if lowered not in ("true", "false"):
        raise UsageError(name, value or "(empty)", "must be true or false")
    return lowered == "true"
