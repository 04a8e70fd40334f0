"""The types of values that are given as text: how each is read and written, and what is allowed."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Generic, TypeVar

V = TypeVar("V")

_INTEGER = re.compile(r"[+-]?[0-9]{1,12}")
_REAL = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
MOST_CHARACTERS = 40
"""The most characters of a number; more only make reading slow."""

MOST_LETTERS = 200
"""And of a name."""


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

    def read(self, text: str) -> str:
        """Read the name."""
        if len(text) > MOST_LETTERS or not re.fullmatch(r"[\w.:/-]*", text):
            raise ValueError(self.allowed())
        return text

    def allowed(self) -> str:
        """Return which characters are allowed."""
        return f"at most {MOST_LETTERS} letters, digits or any of _ . : / -"


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
