"""The space that a search looks through: for each setting of a student what may be tried, as plain values.

Its text, ``method=logits,dkd temperature=1..20 hidden=16,32,64``, is canonical, so equal spaces have equal text;
:mod:`kdops.config.space_parser` reads it. Neither Optuna nor torch is imported here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdops.config.method_specs import ChosenMethod
from kdops.config.methods import parse_method
from kdops.config.options import Integer, Option

Value = float | int | bool | str

METHOD = "method"
"""The setting that chooses among methods."""


@dataclass(frozen=True)
class Dimension:
    """One setting and what may be tried of it: values of a list, or all from ``low`` to ``high``.

    Attributes:
        name: of the setting.
        option: its type.
        values: the list, ascending (true before false, methods as in their table); empty for a range. What is no
            number and no truth value stands here as its text.
        low: the smallest of a range, which has ``low`` < ``high``.
        high: the largest of a range, itself within.
        log: whether a range is searched evenly in the logarithm.
        only: the methods whose trials choose it; empty for all.
    """

    name: str
    option: Option[Any]
    values: tuple[Value, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False
    only: tuple[str, ...] = ()

    def __str__(self) -> str:
        values = ",".join(map(self.write, self.values))
        return f"{self.name}={values or f'{self.write(self.low)}..{self.write(self.high)}'}"

    def write(self, value: Value) -> str:
        """Return the canonical text of a value."""
        return value if isinstance(value, str) else self.option.write(value)

    @property
    def whole(self) -> bool:
        """Whether it takes whole numbers."""
        return isinstance(self.option, Integer)

    @property
    def is_range(self) -> bool:
        """Whether everything between two ends may be tried."""
        return not self.values

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
    """What may be tried of every setting, in the order of the table; see :func:`kdops.config.space_parser.parse_space`.

    Attributes:
        dimensions: the settings; that of the method, where there is one, comes first.
        methods: the methods that trials learn by: those of the dimension, or the one that is given.
    """

    dimensions: tuple[Dimension, ...]
    methods: tuple[ChosenMethod, ...]

    def __str__(self) -> str:
        return " ".join(map(str, self.dimensions))

    @property
    def names_methods(self) -> bool:
        """Whether the methods are those of the dimension."""
        return any(d.name == METHOD for d in self.dimensions)

    @property
    def fixed(self) -> dict[str, Value]:
        """The settings with one value, and that value."""
        return {d.name: d.values[0] for d in self.dimensions if len(d.values) == 1}

    @property
    def free(self) -> tuple[Dimension, ...]:
        """The settings that a trial chooses: those with more than one value."""
        return tuple(d for d in self.dimensions if len(d.values) != 1)

    def of(self, chosen: Mapping[str, Value]) -> tuple[Dimension, ...]:
        """Return the settings of a trial that has chosen its method: without the options of other methods."""
        method = {**self.fixed, **chosen}.get(METHOD)
        return tuple(d for d in self.dimensions if not d.only or method in d.only)

    def whole(self, chosen: Mapping[str, Value]) -> dict[str, Value]:
        """Return the value of every setting of a trial, the fixed ones too; empty where some are not chosen yet."""
        values = {**self.fixed, **chosen}
        names = [d.name for d in self.of(chosen)]
        return {name: values[name] for name in names} if set(names) <= set(values) else {}

    def method_of(self, values: Mapping[str, Value]) -> ChosenMethod:
        """Return what a trial learns by: its method with the options that it tries."""
        named = values.get(METHOD)
        return (parse_method(named) if isinstance(named, str) else self.methods[0]).with_options(values)

    def grids(self, points: int) -> list[dict[str, tuple[Value, ...]]]:
        """Return the values of every setting that a grid crosses, see :meth:`Dimension.grid`.

        There is one grid, or one for each method where methods have options of their own.
        """
        first, *others = self.dimensions
        if not any(d.only for d in others):
            return [{d.name: d.grid(points) for d in self.dimensions}]
        each = [self.of({METHOD: method}) for method in first.values]
        return [
            {METHOD: (method,), **{d.name: d.grid(points) for d in own[1:]}}
            for method, own in zip(first.values, each, strict=True)
        ]

    def tried(self, name: str, otherwise: Value) -> tuple[Value, ...]:
        """Return what is tried of a setting that takes lists, and the one value that it has where it is not named."""
        return next((d.values for d in self.dimensions if d.name == name), (otherwise,))

    def least(self) -> dict[str, Value]:
        """Return the first value of every setting: the lowest number, of texts the first in their order."""
        return {d.name: d.low if d.is_range else d.values[0] for d in self.dimensions}

    def middle(self) -> dict[str, Value]:
        """Return a value of every setting from the middle of what may be tried."""
        grids = self.grids(1)
        return {name: values[len(values) // 2] for name, values in grids[len(grids) // 2].items()}

    @property
    def is_endless(self) -> bool:
        """Whether some setting may be any number of a range."""
        return any(d.is_range and not d.whole for d in self.dimensions)

    def points(self, most: int) -> list[dict[str, Value]]:
        """Return different points, at most so many; all there are, where these are no more.

        Those of ranges of real numbers are none that anyone would write.
        """
        endless = {d.name for d in self.dimensions if d.is_range and not d.whole}
        crossed = (
            dict(zip(grid, values, strict=True))
            for grid in self.grids(most + 10)
            for values in itertools.product(*(v[3 : most + 3] if name in endless else v for name, v in grid.items()))
        )
        return list(itertools.islice(crossed, most))

    def size(self, points: int) -> int:
        """Count the crossings of such a grid."""
        return sum(math.prod(map(len, grid.values())) for grid in self.grids(points))
