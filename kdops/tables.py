"""Tables: ``csv:FILE``, one row an example, one column the class.

Columns are parted by comma, semicolon or tab, whichever the first line has most of. Every column but those of the
class, the group and the split is a number or a category; see :mod:`kdops.encoding`.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import psutil

from kdops.cache import Decoded
from kdops.csv_lines import bounded_lines
from kdops.encoding import Encoding, Number, as_number, is_missing
from kdops.errors import UsageError
from kdops.origin import Origin
from kdops.own import PARTS, check_classes, check_parts, hold_out_rest, told_split

__all__ = ["load"]

DELIMITERS = ",;\t"
LABEL = "label"
MOST_COLUMNS = 10_000
GROWTH = 30
"""A cell of a few bytes becomes an object of Python, and an entry of a row."""

MOST_CLASSES = 1000


def load(origin: Origin, root: Path, progress: Callable[[int, int], object] | None = None) -> tuple[Decoded, str]:
    """Load a table.

    Args:
        origin: the file, and which columns are the class, the group and the split.
        root: is there because every loader has it.
        progress: likewise.

    Returns:
        The data set, its encoding fitted to what is not test, and what is to be known about it.

    Raises:
        UsageError: the file is no such table, or a column or a row does not fit.
    """
    table = _read(origin)
    label = _label(origin, table)
    taken = {label: "label"}
    for parameter in ("group", "split"):
        if column := getattr(origin, parameter):
            _check_column(origin, table, parameter, column)
            if column in taken:
                raise UsageError(parameter, column, f"is the column of {taken[column]} already")
            taken[column] = parameter
    features = {name: texts for name, texts in table.columns.items() if name not in taken}
    if not features:
        raise UsageError("dataset", origin, f"has no column beside {', '.join(taken)} to learn from")
    labels, classes = _classes(origin, table, label)
    tracks = _groups(table.columns[origin.group]) if origin.group else np.full(len(labels), -1, dtype=np.int64)
    test, validation = _given(origin, table)
    official = test is not None
    if test is None:
        test = hold_out_rest(origin, classes, labels, tracks, validation)
    # What the test rows have must not reach the training.
    seen = np.flatnonzero(~test)
    encoding = Encoding.fit({name: [texts[row] for row in seen] for name, texts in features.items()}, "dataset", origin)
    rows = [dict(zip(features, cells, strict=True)) for cells in zip(*features.values(), strict=True)]
    values = encoding.encode(rows, parameter="dataset", value=origin, names=table.lines)
    decoded = Decoded.of(values, labels, tracks, test, classes, validation, encoding.to_json())
    check_parts(origin, decoded, table.lines)
    numbers = sum(isinstance(column, Number) for column in encoding.columns)
    found = (
        f"{len(labels):,} rows of {len(classes)} classes, {numbers} columns of numbers and "
        f"{len(encoding.columns) - numbers} of categories, {encoding.width} values a row"
    )
    return decoded, f"table: {found}; {told_split(official, decoded)}"


@dataclass(frozen=True)
class _Table:
    """The cells of a table by column, and what each row is called."""

    columns: dict[str, list[str]]
    lines: list[str]


def _read(origin: Origin) -> _Table:
    path = Path(origin.place).expanduser()
    if not os.path.exists(path):
        raise UsageError("dataset", origin, "there is no such file")
    if not path.is_file():
        raise UsageError("dataset", origin, "must be a file")
    size, room = path.stat().st_size, psutil.virtual_memory().available
    if size * GROWTH > room:
        advice = f"a table of {size / 1e9:.1f} GB takes {GROWTH} times as much memory, and {room / 1e9:.1f} GB are free"
        raise UsageError("dataset", origin, advice)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            lines_of = bounded_lines(file)
            first = next(lines_of, "")
            delimiter = max(DELIMITERS, key=first.count)
            reader = csv.reader(chain([first], lines_of), delimiter=delimiter, skipinitialspace=True, strict=True)
            names = [name.strip() for name in next(reader, [])]
            _check_names(origin, names)
            cells, lines = [], []
            for row in reader:
                if not row:
                    continue
                if len(row) != len(names):
                    raise UsageError(
                        "dataset", origin, f"line {reader.line_num} has {len(row)} cells, and the first {len(names)}"
                    )
                cells.append([cell.strip() for cell in row])
                lines.append(f"line {reader.line_num}")
    except (OSError, UnicodeError, csv.Error) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeError) else " ".join(str(error).split())
        raise UsageError("dataset", origin, f"cannot be read as a table ({reason})") from error
    if not cells:
        raise UsageError("dataset", origin, "has no rows below the first line, which names the columns")
    return _Table(dict(zip(names, map(list, zip(*cells, strict=True)), strict=True)), lines)


def _check_names(origin: Origin, names: list[str]) -> None:
    if not any(names):
        raise UsageError("dataset", origin, "is empty; its first line must name the columns")
    if len(names) > MOST_COLUMNS:
        raise UsageError("dataset", origin, f"has {len(names):,} columns, and {MOST_COLUMNS:,} are allowed")
    counts = Counter(names)
    for number, name in enumerate(names, start=1):
        if not name or not name.isprintable():
            raise UsageError("dataset", origin, f"column {number} has no name in the first line")
        if counts[name] > 1:
            raise UsageError("dataset", origin, f"two columns are called {name}")


def _check_column(origin: Origin, table: _Table, parameter: str, column: str) -> None:
    if column not in table.columns:
        raise UsageError(parameter, column, f"{origin} has no such column; it has {', '.join(table.columns)}")


def _label(origin: Origin, table: _Table) -> str:
    if origin.label:
        _check_column(origin, table, "label", origin.label)
        return origin.label
    taken = (origin.group, origin.split)
    return LABEL if LABEL in table.columns else [name for name in table.columns if name not in taken][-1]


def _classes(origin: Origin, table: _Table, label: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Give class numbers and class names; names that are all numbers are in their order."""
    texts = table.columns[label]
    if missing := [line for line, text in zip(table.lines, texts, strict=True) if is_missing(text)]:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise UsageError("dataset", origin, f"{missing[0]}{more} has no label in the column {label}")
    found = set(texts)
    numeric = all(as_number(text) is not None for text in found)
    classes = tuple(sorted(found, key=(lambda text: (as_number(text), text)) if numeric else None))
    if len(classes) > min(MOST_CLASSES, max(2, len(texts) // 2)):
        raise UsageError(
            "dataset",
            origin,
            f"the column {label} has {len(classes)} different values in {len(texts)} rows, too many for classes; give "
            "label=COLUMN",
        )
    check_classes(origin, classes)
    number_of = {name: number for number, name in enumerate(classes)}
    return np.array([number_of[text] for text in texts], dtype=np.int64), classes


def _groups(texts: list[str]) -> np.ndarray:
    numbers: dict[str, int] = {}
    return np.array(
        [-1 if is_missing(text) else numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.int64
    )


def _given(origin: Origin, table: _Table) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Give the test and the validation rows, where the table says which they are."""
    if not origin.split:
        return None, None
    parts = []
    for line, text in zip(table.lines, table.columns[origin.split], strict=True):
        if text.lower() not in PARTS:
            raise UsageError("split", origin.split, f"{line} has {text!r}; allowed are train, val and test")
        parts.append(PARTS[text.lower()])
    given = np.array(parts)
    if "train" not in parts:
        raise UsageError("split", origin.split, "no row has train")
    test, validation = (given == part if part in parts else None for part in ("test", "val"))
    return test, validation
