"""How the rows of a table become what a network sees.

Each number becomes its rank among the training rows, in 256 steps between their quantiles, as networks on tables are
often fed (Gorishniy et al., "Revisiting Deep Learning Models for Tabular Data", 2021); each category one value of 0 or
255; a category that no training row has is none of them, all 0. So a table is like images of one pixel with a channel
for each value: it is trained, tracked and served in the same way. The encoding is plain JSON.

A copy of this file travels with each model of a table, which is asked with rows; so it needs nothing of kdops.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

MISSING = frozenset({"", "na", "n/a", "<na>", "nan", "null", "none", "?"})
"""What stands for a missing value, in any case of letters."""

FORMAT = 1
BRIGHTEST = 255
SHOWN = 60
"""Characters of a cell that a mistake shows."""


Remark = Callable[[int, str], object]
"""Called with the place of a row, from 0, and a sentence about it."""


class RowError(ValueError):
    """A row that cannot be encoded: which one, which column, and why, in a sentence.

    Attributes:
        row: its place, from 0.
    """

    def __init__(self, reason: str, row: int):
        super().__init__(reason)
        self.row = row


@dataclass(frozen=True)
class Number:
    """A column of numbers.

    Attributes:
        name: the column.
        knots: quantiles of the training rows, ascending.
        ranks: the rank of each knot, 0 to 1.
        median: what stands for a missing value.
        flag: whether a second value marks that the number was missing; only where some training rows lack it.
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

    def texts_of(self, cells: Sequence[object]) -> list[str]:
        """Return the text of each cell."""
        return [str(cell).strip() for cell in cells]

    def encode(self, texts: Sequence[str], names: Sequence[str], remark: Remark) -> np.ndarray:
        """Return uint8 ``[N, width]`` of cells; ``names`` is what their rows are called."""
        absent = np.array([is_missing(text) for text in texts], dtype=bool)
        values = np.full(len(texts), self.median)
        for row in np.flatnonzero(~absent).tolist():
            value = as_number(texts[row])
            if value is None:
                problem = f"{names[row]} has {_shown(texts[row])} in the column {self.name}, which is no number"
                raise RowError(problem, row)
            values[row] = value
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

    def texts_of(self, cells: Sequence[object]) -> list[str]:
        """Return the text of each cell; of one that is no text the category that means the same, if one alone does.

        What reads a file for the caller makes numbers and truth values of categories: 1234 or 1234.0 of 01234.
        """
        meant: dict[str, str] = {}
        found = []
        for cell in cells:
            text = str(cell).strip()
            if not isinstance(cell, str) and text not in meant:
                same = [value for value in self.values if _is_same(value, text)]
                meant[text] = same[0] if text not in self.values and len(same) == 1 else text
            found.append(text if isinstance(cell, str) else meant[text])
        return found

    def encode(self, texts: Sequence[str], names: Sequence[str], remark: Remark) -> np.ndarray:
        """Return uint8 ``[N, width]`` of cells; ``names`` is what their rows are called."""
        place = {value: number for number, value in enumerate(self.values)}
        encoded = np.zeros((len(texts), self.width), dtype=np.uint8)
        for row, text in enumerate(texts):
            value = "" if is_missing(text) else text
            if value in place:
                encoded[row, place[value]] = BRIGHTEST
            else:
                what = _shown(value) if value else "no value"
                remark(row, f"{names[row]} has {what} in the column {self.name}, which no training row has")
        return encoded


@dataclass(frozen=True)
class Encoding:
    """The columns of a table and what each becomes. Fitted to training rows, never to test rows."""

    columns: tuple[Number | Category, ...]

    @property
    def width(self) -> int:
        """How many values a row becomes."""
        return sum(column.width for column in self.columns)

    def encode(self, rows: Any, names: Sequence[str] = (), remark: Remark = lambda row, text: None) -> np.ndarray:
        """Encode rows.

        Args:
            rows: a list of dicts by column, or a pandas DataFrame; other columns than the encoding's are left alone.
            names: what each row is called in a mistake.
            remark: called for each cell whose category was not seen in training; its row is of no category then.

        Returns:
            uint8 ``[N, width, 1, 1]``.

        Raises:
            RowError: a column is missing, or a number is none.
        """
        records = rows.to_dict("records") if hasattr(rows, "to_dict") else list(rows)
        names = names or [f"row {number}" for number in range(len(records))]
        for number, record in enumerate(records):
            if not isinstance(record, Mapping):
                raise RowError(f"{names[number]} must give a value by the name of each column", number)
            for column in self.columns:
                if column.name not in record:
                    raise RowError(f"{names[number]} has no column {column.name}", number)
        encoded = [np.zeros((len(records), 0), dtype=np.uint8)]
        for column in self.columns:
            texts = column.texts_of([record[column.name] for record in records])
            encoded.append(column.encode(texts, names, remark))
        return np.concatenate(encoded, axis=1)[:, :, None, None]

    def to_json(self) -> str:
        """Write it as JSON."""
        columns = [{"kind": type(column).__name__.lower(), **asdict(column)} for column in self.columns]
        return json.dumps({"format": FORMAT, "columns": columns}, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Encoding:
        """Read what :meth:`to_json` wrote. Raises ValueError if the text is something else."""
        kinds = {"number": Number, "category": Category}
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']} is not known here")
            return cls(tuple(_column(kinds[column.pop("kind")], column) for column in content["columns"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no encoding of a table: {error!r}") from error


def is_missing(text: str) -> bool:
    """Return whether a text stands for a missing value."""
    return text.lower() in MISSING


def as_number(text: str) -> float | None:
    """Read a finite number; None for any other text."""
    try:
        value = float(text)
    except ValueError:
        return None
    # Python alone reads 1_000 as a number.
    return value if math.isfinite(value) and "_" not in text else None


def _is_same(value: str, text: str) -> bool:
    """Return whether two texts are one number or one truth value."""
    number = as_number(text)
    return value.lower() == text.lower() if number is None else as_number(value) == number


def _column(kind: type, content: dict[str, object]) -> Number | Category:
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in content.items()})


def _shown(text: str) -> str:
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}...")
