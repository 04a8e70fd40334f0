"""Text to values: numbers, truth values, words, and the one grammar ``name(option=value,...)``.

A table lists which names there are, and for each name which options it has, each with its type, bounds and default::

    TABLE = {"dkd": Spec("kdops.distillation.dkd:DecoupledKD", beta=Real(0, 100, default=8.0))}
    parse_spec("dkd(beta=2)", "method", TABLE)          # ("dkd", {"beta": 2.0})
    write_spec("dkd", {"beta": 8.0}, TABLE)             # "dkd": only what differs from the defaults
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Generic, TypeVar

from kdops.errors import UsageError

__all__ = [
    *("Choice", "Flag", "Integer", "Option", "Real", "Several", "Spec", "Text"),
    *(
        "boolean",
        "line",
        "one_of",
        "parse_spec",
        "real",
        "split_options",
        "split_outside",
        "split_spec",
        "whole",
        "write_spec",
    ),
]

V = TypeVar("V")

_INTEGER = re.compile(r"[+-]?[0-9]{1,12}")
_REAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_SPEC = re.compile(r"\s*([a-zA-Z_][\w.:-]*)\s*(?:\((.*)\))?\s*", re.DOTALL)
_NAMED = re.compile(r"([^=(]*)=(.*)", re.DOTALL)
MOST_CHARACTERS = 40
"""The most characters of a number; more only make reading slow."""


class Option(ABC, Generic[V]):
    """The type of a value that is given as text: how it is read and written, and what is allowed."""

    default: V

    @abstractmethod
    def read(self, text: str) -> V:
        """Read a value.

        Raises:
            ValueError: the text is not allowed; the message is what is allowed.
        """

    @abstractmethod
    def allowed(self) -> str:
        """Return what is allowed, in words that follow "must be"."""

    def write(self, value: V) -> str:
        """Return the canonical text of a value; :meth:`read` returns the value for it."""
        return str(value)

    def write_full(self, value: V) -> str:
        """Return the text that means the same whatever becomes of the defaults within it."""
        return self.write(value)


@dataclass(frozen=True)
class Integer(Option[int]):
    """A whole number from ``low`` to ``high``."""

    low: int
    high: int
    default: int = 0

    def read(self, text: str) -> int:
        """Read the number."""
        if not _INTEGER.fullmatch(text) or not self.low <= int(text) <= self.high:
            raise ValueError(self.allowed())
        return int(text)

    def allowed(self) -> str:
        """Return the bounds."""
        return f"a whole number from {self.low} to {self.high}"


@dataclass(frozen=True)
class Real(Option[float]):
    """A number from ``low`` to ``high``; an open end is not allowed itself."""

    low: float
    high: float
    default: float = 0.0
    open_low: bool = False
    open_high: bool = False

    def read(self, text: str) -> float:
        """Read the number."""
        if len(text) > MOST_CHARACTERS or not _REAL.fullmatch(text):
            raise ValueError(self.allowed())
        # Adding zero makes -0 a plain zero, which is written as one.
        number = float(text) + 0.0
        above = self.low < number if self.open_low else self.low <= number
        below = number < self.high if self.open_high else number <= self.high
        if not (above and below):
            raise ValueError(self.allowed())
        return number

    def allowed(self) -> str:
        """Return the bounds."""
        low = f"{'above' if self.open_low else 'from'} {self.low:g}"
        between = "and" if self.open_low else "to"
        end = f"below {self.high:g}" if self.open_high else f"{'at most ' if self.open_low else ''}{self.high:g}"
        return f"a number {low} {between} {end}"

    def write(self, value: float) -> str:
        """Return the shortest text that is read as this number."""
        return repr(float(value)).removesuffix(".0")


@dataclass(frozen=True)
class Flag(Option[bool]):
    """``true`` or ``false``."""

    default: bool = False

    def read(self, text: str) -> bool:
        """Read the truth value."""
        if text.lower() not in ("true", "false"):
            raise ValueError(self.allowed())
        return text.lower() == "true"

    def allowed(self) -> str:
        """Return the two words."""
        return "true or false"

    def write(self, value: bool) -> str:
        """Return the word in lower case."""
        return str(value).lower()


@dataclass(frozen=True)
class Choice(Option[str]):
    """One of several words."""

    words: Collection[str]
    default: str = ""

    def read(self, text: str) -> str:
        """Read the word."""
        if text not in self.words:
            raise ValueError(self.allowed())
        return text

    def allowed(self) -> str:
        """Return the words."""
        return f"one of {', '.join(self.words)}"


@dataclass(frozen=True)
class Text(Option[str]):
    """A name: letters, digits and ``_ . : / -``, so that it can stand in a specification; also none."""

    default: str = ""
    most: int = 200

    def read(self, text: str) -> str:
        """Read the name."""
        if len(text) > self.most or not re.fullmatch(r"[\w.:/-]*", text):
            raise ValueError(self.allowed())
        return text

    def allowed(self) -> str:
        """Return which characters are allowed."""
        return f"at most {self.most} letters, digits or any of _ . : / -"


@dataclass(frozen=True)
class Several(Option[tuple[V, ...]]):
    """One or more values of the same type, separated by ``/``; at least ``fewest``."""

    one: Option[V]
    default: tuple[V, ...] = ()
    fewest: int = 1

    def read(self, text: str) -> tuple[V, ...]:
        """Read the values."""
        pieces = text.split("/")
        try:
            if len(pieces) >= self.fewest:
                return tuple(self.one.read(piece) for piece in pieces)
        except ValueError:
            pass
        raise ValueError(self.allowed())

    def allowed(self) -> str:
        """Return what one value may be."""
        return f"{self.one.allowed()}, {f'{self.fewest} or more' if self.fewest > 1 else 'or several'} separated by /"

    def write(self, value: tuple[V, ...]) -> str:
        """Return the values with ``/`` between them."""
        return "/".join(map(self.one.write, value))


class Spec:
    """What a name stands for: the place of its code as text, and its options in order.

    Args:
        place: ``module:name`` of what builds it; nothing is imported here.
        **options: its options by name.

    Attributes:
        first: the option whose name is left out, ``name(value,option=value,...)``; empty for none.
    """

    first = ""

    def __init__(self, place: str = "", **options: Option[Any]):
        self.place, self.options = place, options

    def defaults(self) -> dict[str, Any]:
        """Return the default of each option."""
        return {name: option.default for name, option in self.options.items()}

    def read(self, given: Mapping[str, str]) -> dict[str, Any]:
        """Return the value of each option, in order; what is not given has its default.

        Raises:
            ValueError: for an unknown option or a value that is not allowed.
        """
        for name in given:
            if name not in self.options:
                known = f"its options are {', '.join(self.options)}" if self.options else "it has no options"
                raise ValueError(f"unknown option {name!r}; {known}")
        values = self.defaults()
        for name, option in self.options.items():
            if name in given:
                try:
                    values[name] = option.read(given[name])
                except ValueError as error:
                    raise ValueError(f"the option {name} must be {error}") from None
        return values

    def write(self, values: Mapping[str, Any], *, full: bool = False) -> str:
        """Return ``(option=value,...)`` of what differs from the defaults, or of all options; empty for none."""
        written = [
            f"{name}=".removeprefix(f"{self.first}=") + (option.write_full if full else option.write)(values[name])
            for name, option in self.options.items()
            if full or values[name] != option.default
        ]
        return f"({','.join(written)})" if written else ""


def split_spec(text: str) -> tuple[str, str]:
    """Return the name and what stands in the brackets of ``name`` or ``name(option=value,...)``.

    Raises:
        ValueError: it is spelled otherwise.
    """
    match = _SPEC.fullmatch(text)
    if not match or not all(_is_balanced(part) for part in split_outside(match[2] or "")):
        raise ValueError("must be a name, or name(option=value,...)")
    return match[1], match[2] or ""


def split_outside(text: str, separator: str = ",") -> list[str]:
    """Split at the separators, of one character, that stand in no brackets."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign == "(") - (sign == ")")
        if sign == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def _is_balanced(text: str) -> bool:
    """Return whether every bracket is closed after it was opened."""
    depths = list(accumulate((sign == "(") - (sign == ")") for sign in text))
    return not depths or (min(depths) >= 0 and depths[-1] == 0)


def split_options(inner: str, first: str = "") -> dict[str, str]:
    """Return the text of each option of ``option=value,...``.

    Args:
        inner: what stands in the brackets.
        first: the option that the first value is of where it has no name.

    Raises:
        ValueError: an option has no value, or is given twice.
    """
    given: dict[str, str] = {}
    for number, part in enumerate(split_outside(inner) if inner.strip() else ()):
        named = _NAMED.fullmatch(part)
        name, value = (piece.strip() for piece in named.groups()) if named else ("", part.strip())
        name = name or first * (not named and number == 0 and bool(value))
        if not name:
            raise ValueError(f"the option {part.strip() or '(empty)'} needs a value: option=value")
        if name in given:
            raise ValueError(f"the option {name} is given twice")
        given[name] = value
    return given


def parse_spec(text: str, parameter: str, table: Mapping[str, Spec]) -> tuple[str, dict[str, Any]]:
    """Parse ``name`` or ``name(option=value,...)``; an option that is not given has its default.

    Args:
        text: what was given.
        parameter: the parameter it was given for, as errors name it.
        table: the known names and their options.

    Raises:
        UsageError: for an unknown name or option, a doubled option, or a value that is not allowed.
    """
    known = ", ".join(name + spec.write(spec.defaults(), full=True) for name, spec in table.items())
    try:
        name, inner = split_spec(text)
    except ValueError as error:
        raise UsageError(parameter, text or "(empty)", f"{error}; there are {known}") from None
    if name not in table:
        raise UsageError(parameter, text, f"must be one of {known}")
    try:
        return name, table[name].read(split_options(inner, table[name].first))
    except ValueError as error:
        raise UsageError(parameter, text, f"{error} (of {name})") from None


def write_spec(name: str, values: Mapping[str, Any], table: Mapping[str, Spec], *, full: bool = False) -> str:
    """Return the canonical text: what differs from the defaults, or all options, in the order of the table."""
    return name + table[name].write(values, full=full)


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
    return _checked(name, value, Choice(allowed))


def whole(name: str, value: str, low: int, high: int) -> int:
    """Read a whole number from ``low`` to ``high``.

    Raises:
        UsageError: it is none.
    """
    return _checked(name, value, Integer(low, high))


def real(name: str, value: str, low: float, high: float, *, open_low: bool = False) -> float:
    """Read a number from ``low``, or above it, to ``high``.

    Raises:
        UsageError: it is none.
    """
    return _checked(name, value, Real(low, high, open_low=open_low))


def boolean(name: str, value: str) -> bool:
    """Read ``true`` or ``false``.

    Raises:
        UsageError: it is neither.
    """
    return _checked(name, value, Flag())


def _checked(name: str, value: str, option: Option[V]) -> V:
    try:
        return option.read(value)
    except ValueError as error:
        raise UsageError(name, value or "(empty)", f"must be {error}") from None
