"""Reads the text of a parameter: a number, a truth value, a word or a line."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from kdops.config.options import Choice, Flag, Integer, Option, Real
from kdops.errors import UsageError

V = TypeVar("V")


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
    """Return a word that is one of the allowed. Raises UsageError if it is another."""
    return _checked(name, value, Choice(allowed))


def whole(name: str, value: str, low: int, high: int) -> int:
    """Read a whole number from ``low`` to ``high``. Raises UsageError if it is none."""
    return _checked(name, value, Integer(low, high))


def real(name: str, value: str, low: float, high: float, *, open_low: bool = False) -> float:
    """Read a number from ``low``, or above it, to ``high``. Raises UsageError if it is none."""
    return _checked(name, value, Real(low, high, open_low=open_low))


def boolean(name: str, value: str) -> bool:
    """Read ``true`` or ``false``. Raises UsageError if it is neither."""
    return _checked(name, value, Flag())


def _checked(name: str, value: str, option: Option[V]) -> V:
    try:
        return option.read(value)
    except ValueError as error:
        raise UsageError(name, value or "(empty)", f"must be {error}") from None


def value_or(word: str, value: V, name: str, text: Mapping[str, str], check: Callable[[str, str], V]) -> V:
    """Return ``value`` for a parameter whose text is ``word``, else what the check returns for its text.

    Raises:
        UsageError: it is neither.
    """
    given = text[name]
    if given == word:
        return value
    try:
        return check(name, given)
    except UsageError as error:
        raise UsageError(name, error.value, f"{error.allowed}, or {word}") from None
