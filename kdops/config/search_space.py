"""The space that a search looks through, and what it looks for: plain values, read from text and checked.

A space lists for each setting of a student what may be tried, ``temperature=1..20 hidden=16,32,64 alpha=1``; its text
is canonical, so equal spaces have equal text. Neither Optuna nor torch is imported here.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from kdops.config.architectures import MLP
from kdops.config.parsing import Flag, Integer, Option, Real, Spec
from kdops.errors import UsageError

__all__ = [
    "NLL_OBJECTIVE",
    "OBJECTIVES",
    "PRUNERS",
    "SAMPLERS",
    "Dimension",
    "Space",
    "Value",
    "parse_objectives",
    "parse_space",
]

Value = float | int | bool

NLL_OBJECTIVE = "val_nll"
"""The objective of the lowest loss on validation; a metric has the same name."""

OBJECTIVES: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("accuracy",): ("maximize",),
    (NLL_OBJECTIVE,): ("minimize",),
    ("accuracy", "parameters"): ("maximize", "minimize"),
    ("accuracy", "flops"): ("maximize", "minimize"),
    ("accuracy", "parameters", "flops"): ("maximize", "minimize", "minimize"),
}
"""What a search may look for, and which way is better. ``accuracy`` and ``val_nll`` are those of validation."""

SAMPLERS: Mapping[str, Spec] = {
    "tpe": Spec(startup=Integer(0, 100_000, default=10)),
    "random": Spec(),
    "grid": Spec(points=Integer(1, 100, default=3)),
}
"""What chooses the values of a trial: the tree-structured Parzen estimator, whose first ``startup`` trials are random;
chance; or a grid of ``points`` values of each range."""

PRUNERS: Mapping[str, Spec] = {
    "median": Spec(startup=Integer(0, 100_000, default=10), warmup=Integer(0, 100_000, default=3)),
    "none": Spec(),
}
"""What ends a trial early: being worse than the median of the trials before it, once there are ``startup`` of them and
``warmup`` epochs are over; or nothing."""

MOST_VALUES = 100


@dataclass(frozen=True)
class Dimension:
    """One setting and what may be tried of it: values of a list, or all from ``low`` to ``high``.

    Attributes:
        name: of the setting.
        values: the list, ascending (true before false); empty for a range.
        low: the smallest of a range, which has ``low`` < ``high``.
        high: the largest of a range, itself within.
        log: whether a range is searched evenly in the logarithm.
    """

    name: str
    values: tuple[Value, ...] = ()
    low: Value = 0
    high: Value = 0
    log: bool = False

    def __str__(self) -> str:
        write = _SETTINGS[self.name].option.write
        return f"{self.name}={','.join(map(write, self.values)) or f'{write(self.low)}..{write(self.high)}'}"

    @property
    def whole(self) -> bool:
        """Whether it takes whole numbers."""
        return isinstance(_SETTINGS[self.name].option, Integer)

    @property
    def is_range(self) -> bool:
        """Whether everything between two ends may be tried."""
        return not self.values

    def contains(self, value: object) -> bool:
        """Return whether a value may be tried; 8 is a real number too, but true is no number."""
        truth = isinstance(_SETTINGS[self.name].option, Flag)
        if not isinstance(value, int if self.whole or truth else (int, float)) or isinstance(value, bool) is not truth:
            return False
        return self.low <= value <= self.high if self.is_range else value in self.values

    def grid(self, points: int) -> tuple[Value, ...]:
        """Return the values of a grid: the list itself, or ``points`` values of a range, evenly spaced from end to end.

        Args:
            points: how many of a range, at least 1 (then the middle); whole numbers are rounded, so of a short range
                there are as many as it has.
        """
        if not self.is_range:
            return self.values
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        places = [n / (points - 1) for n in range(points)] if points > 1 else [0.5]
        spaced = [low + (high - low) * place for place in places]
        spaced = [math.exp(value) for value in spaced] if self.log else spaced
        # The ends exactly, and nothing beyond them for an error in the last bit.
        spaced = [min(max(value, self.low), self.high) for value in spaced]
        if points > 1:
            spaced[0], spaced[-1] = self.low, self.high
        return tuple(dict.fromkeys(round(value) if self.whole else float(value) for value in spaced))


@dataclass(frozen=True)
class Space:
    """What may be tried of every setting, in the order of the table; make it with :func:`parse_space`."""

    dimensions: tuple[Dimension, ...]

    def __str__(self) -> str:
        return " ".join(map(str, self.dimensions))

    @property
    def fixed(self) -> dict[str, Value]:
        """The settings with one value, and that value."""
        return {d.name: d.values[0] for d in self.dimensions if len(d.values) == 1}

    @property
    def free(self) -> tuple[Dimension, ...]:
        """The settings that a trial chooses: those with more than one value."""
        return tuple(d for d in self.dimensions if len(d.values) != 1)

    def digest(self) -> str:
        """Return the SHA-256 of the canonical text."""
        return hashlib.sha256(str(self).encode()).hexdigest()

    def grid(self, points: int) -> dict[str, tuple[Value, ...]]:
        """Return the values of every setting that a grid crosses, see :meth:`Dimension.grid`."""
        return {d.name: d.grid(points) for d in self.dimensions}

    def middle(self) -> dict[str, Value]:
        """Return a value of every setting from the middle of what may be tried."""
        return {name: values[len(values) // 2] for name, values in self.grid(1).items()}

    def size(self, points: int) -> int:
        """Count the crossings of such a grid."""
        return math.prod(len(values) for values in self.grid(points).values())

    def contains(self, values: Mapping[str, object]) -> bool:
        """Return whether every setting has a value, no other has, and each may be tried."""
        return set(values) == {d.name for d in self.dimensions} and all(
            d.contains(values[d.name]) for d in self.dimensions
        )


def parse_space(text: str, without: Collection[str] = ()) -> Space:
    """Parse ``name=low..high``, ``name=value,value`` and ``name=value``, parted by spaces or semicolons.

    What is not named keeps its default.

    Args:
        text: the space.
        without: settings that it does not have, since the method has no such option.

    Raises:
        UsageError: for an unknown name or one given twice, for a range that is empty or runs backwards, for a value
            that is no number or not allowed at all, for a list with doubles.
    """
    given: dict[str, str] = {}
    shown = " ".join(text.split())
    # Spaces around the signs are the caller's layout, not the end of an entry.
    joined = re.sub(r"\s*(=|,|\.\.)\s*", r"\1", shown)
    kinds = {name: kind for name, kind in _SETTINGS.items() if name not in without}
    for part in filter(None, re.split(r"[;\s]+", joined)):
        name, equals, inner = part.partition("=")
        if name not in kinds:
            raise UsageError("space", shown, f"unknown setting {name!r}; there are {', '.join(kinds)}")
        if not equals or not inner:
            raise UsageError("space", shown, f"{name} needs values, for example {name}={_SETTINGS[name].default}")
        if name in given:
            raise UsageError("space", shown, f"the setting {name} is given twice")
        given[name] = inner
    try:
        return Space(tuple(_dimension(name, given.get(name, kind.default)) for name, kind in kinds.items()))
    except ValueError as error:
        raise UsageError("space", shown, str(error)) from None


def parse_objectives(text: str) -> tuple[str, ...]:
    """Parse what a search looks for, ``accuracy,parameters``.

    Raises:
        UsageError: for anything that is not in :data:`OBJECTIVES`.
    """
    objectives = tuple(part.strip() for part in text.split(","))
    if objectives not in OBJECTIVES:
        known = "; ".join(",".join(known) for known in OBJECTIVES)
        raise UsageError("objective", " ".join(text.split()) or "(empty)", f"must be one of: {known}")
    return objectives


@dataclass(frozen=True)
class _Setting:
    """What may be tried of a setting at all, what is tried by default, and how a range of it is searched."""

    option: Option[Any]
    default: str
    log: bool = False
    ranges: bool = True

    def read(self, name: str, text: str) -> Value:
        """Read one value.

        Raises:
            ValueError: it is none, or not allowed.
        """
        try:
            return self.option.read(text)
        except ValueError as error:
            raise ValueError(f"{text!r} of {name} must be {error}") from None


# The bounds are those of the parameters of a study and of the options of an architecture. A temperature or learning
# rate of 0 is no place on a logarithmic axis: hard labels are alpha=0.
_SETTINGS: Mapping[str, _Setting] = {
    "temperature": _Setting(Real(0.01, 1000), "1..30", log=True),
    "alpha": _Setting(Real(0, 1), "0..1"),
    "t_squared": _Setting(Flag(), "true,false", ranges=False),
    "hidden": _Setting(MLP.spec.options["hidden"], "16..128", log=True),
    "depth": _Setting(MLP.spec.options["depth"], "1..3"),
    "learning_rate": _Setting(Real(1e-9, 100), "0.0005..0.02", log=True),
    "batch_size": _Setting(Integer(1, 1_000_000), "64,128,256,512", ranges=False),
}


def _dimension(name: str, inner: str) -> Dimension:
    """Read what may be tried of one setting.

    Raises:
        ValueError: the text is no dimension of a space; the message has the reason.
    """
    setting = _SETTINGS[name]
    low, dots, high = inner.partition("..")
    if dots and "," in inner:
        raise ValueError(f"{name} has a range and a list in one; give one of them")
    if dots:
        if not setting.ranges:
            raise ValueError(f"{name} takes a list, for example {name}={setting.default}")
        first, last = setting.read(name, low), setting.read(name, high)
        if first == last:
            raise ValueError(f"the range {low}..{high} of {name} is empty; write {name}={low}")
        if first > last:
            raise ValueError(f"the range {low}..{high} of {name} runs backwards; write {high}..{low}")
        return Dimension(name, low=first, high=last, log=setting.log)
    values = [setting.read(name, part) for part in inner.split(",")]
    if len(set(values)) < len(values):
        raise ValueError(f"the list of {name} has doubles")
    if len(values) > MOST_VALUES:
        raise ValueError(f"the list of {name} has {len(values)} values; {MOST_VALUES} are allowed")
    return Dimension(name, tuple(sorted(values, reverse=isinstance(setting.option, Flag))))
