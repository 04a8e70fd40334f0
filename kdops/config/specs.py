"""The one grammar ``name(option=value,...)``.

A table lists which names there are, and for each name which options it has, each with its type, bounds and default::

    TABLE = {"dkd": Spec("kdops.distillation.dkd:DecoupledKD", beta=Real(0, 100, default=8.0))}
    parse_spec("dkd(beta=2)", "method", TABLE)          # ("dkd", {"beta": 2.0})
    write_spec("dkd", {"beta": 8.0}, TABLE)             # "dkd": only what differs from the defaults
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from kdops.config.options import Option
from kdops.errors import UsageError

_SPEC = re.compile(r"\s*([a-zA-Z_][\w.:-]*)\s*(?:\((.*)\))?\s*", re.DOTALL)
_NAMED = re.compile(r"([^=(]*)=(.*)", re.DOTALL)


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
