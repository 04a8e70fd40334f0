"""How the rows of a table become what a network sees, and the same again for rows to come.

Each number becomes its rank among the training rows, in 256 steps between their quantiles, as networks on tables are
often fed (Gorishniy et al., "Revisiting Deep Learning Models for Tabular Data", 2021); each category one value of 0 or
255. So a table is like images of one pixel with a channel for each value: it is trained, tracked and served in the
same way. The encoding is plain JSON and goes with every model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from kdops.errors import UsageError

__all__ = ["MISSING", "Category", "Encoding", "Number"]

MISSING = frozenset({"", "na", "n/a", "<na>", "nan", "null", "none", "?"})
"""What stands for a missing value, in any case of letters."""

FORMAT = 1
KNOTS = 65
"""Quantiles that a number's rank is interpolated between; the least and the greatest value are among them."""

BRIGHTEST = 255
MOST_CATEGORIES = 100
MOST_VALUES = 4096


@dataclass(frozen=True)
class Number:
    """A column of numbers.

    Attributes:
        name: the column.
        knots: quantiles of the training rows, ascending.
        ranks: the rank of each knot, 0 to 1.
        median: what stands for a missing value.
        flag: whether a second value says that the number was missing; only where some training rows lack it.
    """

    name: str
    knots: tuple[float, ...]
    ranks: tuple[float, ...]
    median: float
    flag: bool

    @property
    def width(self) -> int:
        """How many values it becomes."""
        return 1 + self.flag

    @classmethod
    def fit(cls, name: str, texts: Sequence[str]) -> Number:
        """Fit it to the training rows, at least one of which has a number."""
        known = np.array([float(text) for text in texts if not is_missing(text)])
        positions = np.linspace(0, 1, KNOTS)
        knots, group = np.unique(np.quantile(known, positions), return_inverse=True)
        # A value that many rows share has the middle of their ranks.
        ranks = np.bincount(group, weights=positions) / np.bincount(group)
        flag = len(known) < len(texts)
        return cls(name, tuple(knots.tolist()), tuple(ranks.tolist()), float(np.median(known)), flag)

    def encode(self, texts: Sequence[str], told: _Told) -> np.ndarray:
        """Give uint8 ``[N, width]``."""
        absent = np.array([is_missing(text) for text in texts], dtype=bool)
        values = np.full(len(texts), self.median)
        for row in np.flatnonzero(~absent):
            values[row] = told.number(int(row), self.name, texts[row])
        ranks = np.round(BRIGHTEST * np.interp(values, self.knots, self.ranks)).astype(np.uint8)
        return np.column_stack([ranks, BRIGHTEST * absent]).astype(np.uint8)[:, : self.width]


@dataclass(frozen=True)
class Category:
    """A column of categories.

    Attributes:
        name: the column.
        values: the categories of the training rows, sorted; the empty one stands for a missing value.
    """

    name: str
    values: tuple[str, ...]

    @property
    def width(self) -> int:
        """How many values it becomes."""
        return len(self.values)

    @classmethod
    def fit(cls, name: str, texts: Sequence[str]) -> Category:
        """Fit it to the training rows."""
        return cls(name, tuple(sorted({"" if is_missing(text) else text for text in texts})))

    def encode(self, texts: Sequence[str], told: _Told) -> np.ndarray:
        """Give uint8 ``[N, width]``."""
        place = {value: number for number, value in enumerate(self.values)}
        encoded = np.zeros((len(texts), self.width), dtype=np.uint8)
        for row, text in enumerate(texts):
            value = "" if is_missing(text) else text
            if value not in place:
                raise told.unseen(row, self.name, value, self.values)
            encoded[row, place[value]] = BRIGHTEST
        return encoded


@dataclass(frozen=True)
class _Told:
    """How a mistake in a row is told: of which parameter, and what each row is called."""

    parameter: str
    value: object
    rows: Sequence[str]

    def number(self, row: int, column: str, text: str) -> float:
        value = as_number(text)
        if value is None:
            raise UsageError(
                self.parameter, self.value, f"{self.rows[row]} has {text!r} in the column {column}, which is no number"
            )
        return value

    def unseen(self, row: int, column: str, value: str, known: Sequence[str]) -> UsageError:
        what = repr(value) if value else "no value"
        listed = ", ".join(map(repr, known[:10])) + (", ..." if len(known) > 10 else "")
        return UsageError(
            self.parameter,
            self.value,
            f"{self.rows[row]} has {what} in the column {column}, which no training row has; they have {listed}",
        )


@dataclass(frozen=True)
class Encoding:
    """The columns of a table and what each becomes. Fitted to training rows, never to test rows."""

    columns: tuple[Number | Category, ...]

    @property
    def width(self) -> int:
        """How many values a row becomes."""
        return sum(column.width for column in self.columns)

    @classmethod
    def fit(cls, columns: Mapping[str, Sequence[str]], parameter: str = "rows", value: object = "") -> Encoding:
        """Fit an encoding to the training rows of a table.

        A column in which every value that is there is a number is one of numbers, any other one of categories.

        Args:
            columns: the text of each row by column.
            parameter: what a mistake is told of.
            value: its value.

        Raises:
            UsageError: a column has no values, or too many different ones for categories.
        """
        fitted: list[Number | Category] = []
        for name, texts in columns.items():
            known = [text for text in texts if not is_missing(text)]
            if not known:
                raise UsageError(parameter, value, f"the column {name} has no value in the training rows; leave it out")
            if all(as_number(text) is not None for text in known):
                fitted.append(Number.fit(name, texts))
            elif (count := len(set(known))) <= MOST_CATEGORIES:
                fitted.append(Category.fit(name, texts))
            else:
                odd = next(text for text in known if as_number(text) is None)
                raise UsageError(
                    parameter,
                    value,
                    f"the column {name} has {count} different values that are not all numbers (such as {odd[:40]!r}), "
                    f"and categories may have {MOST_CATEGORIES}; leave it out",
                )
        found = cls(tuple(fitted))
        if not 0 < found.width <= MOST_VALUES:
            raise UsageError(
                parameter, value, f"the columns make {found.width} values a row, and 1 to {MOST_VALUES} are allowed"
            )
        return found

    def encode(
        self, rows: object, *, parameter: str = "rows", value: object = "", names: Sequence[str] = ()
    ) -> np.ndarray:
        """Encode rows.

        Args:
            rows: a list of dicts by column, or a pandas DataFrame; other columns than the encoding's are left alone.
            parameter: what a mistake is told of.
            value: its value.
            names: what each row is called.

        Returns:
            uint8 ``[N, width, 1, 1]``, which a model of the table takes.

        Raises:
            UsageError: a column is missing, a number is none, or a category was not seen in training.
        """
        records = rows.to_dict("records") if hasattr(rows, "to_dict") else list(rows)
        told = _Told(parameter, value, names or [f"row {number}" for number in range(len(records))])
        encoded = [np.zeros((len(records), 0), dtype=np.uint8)]
        for column in self.columns:
            if lacking := [number for number, record in enumerate(records) if column.name not in record]:
                raise UsageError(parameter, value, f"{told.rows[lacking[0]]} has no column {column.name}")
            encoded.append(column.encode([_text(record[column.name]) for record in records], told))
        return np.concatenate(encoded, axis=1)[:, :, None, None]

    def to_json(self) -> str:
        """Write it as JSON."""
        columns = [{"kind": type(column).__name__.lower(), **asdict(column)} for column in self.columns]
        return json.dumps({"format": FORMAT, "columns": columns}, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Encoding:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: the text is something else.
        """
        kinds = {"number": Number, "category": Category}
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']} is not known here")
            return cls(tuple(_column(kinds[column.pop("kind")], column) for column in content["columns"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no encoding of a table: {error!r}") from error


def is_missing(text: str) -> bool:
    """Say whether a text stands for a missing value."""
    return text.lower() in MISSING


def as_number(text: str) -> float | None:
    """Read a finite number; None for any other text."""
    try:
        value = float(text)
    except ValueError:
        return None
    # Python alone reads 1_000 as a number.
    return value if math.isfinite(value) and "_" not in text else None


def _column(kind: type, content: dict[str, object]) -> Number | Category:
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in content.items()})


def _text(value: object) -> str:
    """Give a cell as a table's file would have it; what Python, NumPy and pandas call missing is so here too."""
    return str(value).strip()
