"""Reads the file of a table: text cells by column, which are parted by comma, semicolon or tab.

The first line names the columns, and which of the three parts them is what it has most of.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import psutil

from kdops.data.tabular.csv_lines import bounded_lines

__all__ = ["Table", "TableError", "read_table"]

DELIMITERS = ",;\t"
MOST_COLUMNS = 10_000
GROWTH = 30
"""A cell of a few bytes becomes an object of Python, and an entry of a row."""


class TableError(ValueError):
    """A file that is no table, and why, in a sentence."""


@dataclass(frozen=True)
class Table:
    """The cells of a table.

    Attributes:
        columns: the text of each row by column.
        lines: what each row is called, such as ``line 2``.
    """

    columns: dict[str, list[str]]
    lines: list[str]

    def rows(self, names: list[str]) -> list[dict[str, str]]:
        """Return each row as a dict of some columns."""
        return [dict(zip(names, cells, strict=True)) for cells in zip(*map(self.columns.get, names), strict=True)]


def read_table(path: Path) -> Table:
    """Read a table.

    Args:
        path: the file, UTF-8.

    Raises:
        TableError: it is not there, or no table.
    """
    # Unlike the path's own methods these do not raise for a name that is too long, or where nothing may be seen.
    if not os.path.exists(path):
        raise TableError("there is no such file")
    if not os.path.isfile(path):
        raise TableError("must be a file")
    size, room = os.path.getsize(path), psutil.virtual_memory().available
    if size * GROWTH > room:
        problem = (
            f"a table of {size / 1e9:.1f} GB takes {GROWTH} times as much memory, and {room / 1e9:.1f} GB are free"
        )
        raise TableError(problem)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines_of = bounded_lines(file)
            first = next(lines_of, "")
            delimiter = max(DELIMITERS, key=first.count)
            reader = csv.reader(chain([first], lines_of), delimiter=delimiter, skipinitialspace=True, strict=True)
            names = [name.strip() for name in next(reader, [])]
            _check_names(names)
            cells, lines = [], []
            for row in reader:
                if not row:
                    continue
                if len(row) != len(names):
                    raise TableError(f"line {reader.line_num} has {len(row)} cells, and the first {len(names)}")
                cells.append([cell.strip() for cell in row])
                lines.append(f"line {reader.line_num}")
    except (OSError, UnicodeError, csv.Error) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeError) else " ".join(str(error).split())
        raise TableError(f"cannot be read as a table ({reason})") from error
    if not cells:
        raise TableError("has no rows below the first line, which names the columns")
    return Table(dict(zip(names, map(list, zip(*cells, strict=True)), strict=True)), lines)


def _check_names(names: list[str]) -> None:
    if not any(names):
        raise TableError("is empty; its first line must name the columns")
    if len(names) > MOST_COLUMNS:
        raise TableError(f"has {len(names):,} columns, and {MOST_COLUMNS:,} are allowed")
    counts = Counter(names)
    for number, name in enumerate(names, start=1):
        if not name or not name.isprintable():
            raise TableError(f"column {number} has no name in the first line")
        if counts[name] > 1:
            raise TableError(f"two columns are called {name}")
