"""Tables: ``csv:FILE``, one row an example, one column the class.

Every column but those of the class, the group and the split is a number or a category; see
:mod:`kdops.data.tabular.table_file` and :mod:`kdops.data.tabular.rows`.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np

from kdops.config.datasets import DatasetSpec
from kdops.data.arrays import Arrays
from kdops.data.own_data import check_classes, check_parts, describe_split, hold_out_rest, part_of
from kdops.data.tabular.fit_encoding import fit_encoding
from kdops.data.tabular.rows import Number, RowError, as_number, is_missing
from kdops.data.tabular.table_file import Table, TableError, read_table
from kdops.errors import UsageError
from kdops.utils.progress import Progress

LABEL = "label"
MOST_CLASSES = 1000
FEW, ROWS_OF_A_CLASS = 20, 10
"""More numbers than so few are a quantity: with fractions, or where a whole number has fewer rows than this."""


def load(origin: DatasetSpec, root: Path, progress: Progress | None = None) -> tuple[Arrays, str]:
    """Load a table.

    Returns:
        The data set, its encoding fitted to what is not test, and what is to be known about it.

    Raises:
        UsageError: the file is no such table, or a column or a row does not fit.
    """
    try:
        table = read_table(Path(origin.place).expanduser(), lambda column: column not in origin.ignored)
    except TableError as error:
        raise origin.error(str(error)) from error
    label = _label(origin, table)
    taken = {label: "label"}
    for parameter in ("group", "split"):
        if column := getattr(origin, parameter):
            _check_column(origin, table, parameter, column)
            if column in taken:
                raise UsageError(parameter, column, f"is the column of {taken[column]} already")
            taken[column] = parameter
    listed = {parameter: _listed(origin, table, parameter) for parameter in ("ignore", "categorical", "numeric")}
    for parameter, names in listed.items():
        for column in names:
            if column in taken:
                raise UsageError(parameter, column, f"is the column of {taken[column]} already")
            taken[column] = parameter
    left_out = {column for column, parameter in taken.items() if parameter not in ("categorical", "numeric")}
    features = {name: texts for name, texts in table.columns.items() if name not in left_out}
    if not features:
        raise origin.error(f"has no column beside {', '.join(left_out)} to learn from")
    labels, classes = _classes(origin, table, label)
    tracks = _groups(table.columns[origin.group]) if origin.group else np.full(len(labels), -1, dtype=np.int64)
    test, validation = _given(origin, table)
    official = test is not None
    if test is None:
        test = hold_out_rest(origin, classes, labels, tracks, validation)
    # What the test rows have must not reach the training.
    seen = np.flatnonzero(~test)
    fitted = {name: [texts[row] for row in seen] for name, texts in features.items()}
    encoding = fit_encoding(fitted, origin, listed["categorical"], listed["numeric"])
    remarks: dict[int, str] = {}
    try:
        values = encoding.encode(table.rows(list(features)), table.lines, remarks.setdefault)
    except RowError as error:
        raise origin.error(str(error)) from error
    decoded = Arrays.of(values, labels, tracks, test, classes, validation, encoding.to_json())
    check_parts(origin, decoded, table.lines)
    numbers = sum(isinstance(column, Number) for column in encoding.columns)
    found = (
        f"{len(labels):,} rows of {len(classes)} classes, {numbers} columns of numbers and "
        f"{len(encoding.columns) - numbers} of categories, {encoding.width} values a row"
    )
    others = [*table.remarks]
    if remarks:
        others.append(
            f"{len(remarks):,} test row{'s' * (len(remarks) != 1)} with a category that no training row has, taken for "
            f"none of them ({next(iter(remarks.values()))})"
        )
    return decoded, "; ".join([f"table: {found}", describe_split(official, decoded), *others])


def _check_column(origin: DatasetSpec, table: Table, parameter: str, column: str) -> None:
    if column not in table.columns:
        raise UsageError(parameter, column, f"{origin} has no such column; it has {', '.join(table.columns)}")


def _listed(origin: DatasetSpec, table: Table, parameter: str) -> list[str]:
    """Return the columns that a parameter lists."""
    names = [name.strip() for name in getattr(origin, parameter).split(",") if name.strip()]
    for name in names:
        _check_column(origin, table, parameter, name)
    return names


def _label(origin: DatasetSpec, table: Table) -> str:
    if origin.label:
        _check_column(origin, table, "label", origin.label)
        return origin.label
    if LABEL in table.columns and LABEL not in origin.ignored:
        return LABEL
    rest = [name for name in table.columns if name not in (origin.group, origin.split, *origin.ignored)]
    if not rest:
        raise origin.error("has no column left that could be the class; give label=COLUMN")
    return rest[-1]


def _classes(origin: DatasetSpec, table: Table, label: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return class numbers and class names; names that are all numbers are in their order.

    A class may be called ``none`` or ``NA``; only an empty cell is none.
    """
    texts = table.columns[label]
    if missing := [line for line, text in zip(table.lines, texts, strict=True) if not text]:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise origin.error(f"{missing[0]}{more} has no label in the column {label}")
    found = set(texts)
    numeric = all(as_number(text) is not None for text in found)
    classes = tuple(sorted(found, key=(lambda text: (as_number(text), text)) if numeric else None))
    equal = [pair for pair in pairwise(classes) if numeric and as_number(pair[0]) == as_number(pair[1])]
    if equal:
        raise origin.error(f"the column {label} has {' and '.join(equal[0])}, which are one number; write it one way")
    if len(classes) > min(MOST_CLASSES, max(2, len(texts) // 2)):
        raise origin.error(
            f"the column {label} has {len(classes)} different values in {len(texts)} rows, too many for classes "
            "(one class a row is learned, not a number); give label=COLUMN"
        )
    _check_kind(origin, label, texts, classes)
    check_classes(origin, classes)
    number_of = {name: number for number, name in enumerate(classes)}
    return np.array([number_of[text] for text in texts], dtype=np.int64), classes


def _check_kind(origin: DatasetSpec, label: str, texts: list[str], classes: tuple[str, ...]) -> None:
    """Refuse a column whose values are numbers to be predicted, or that has several labels in a cell.

    Raises:
        UsageError: it is no column of one class a row.
    """
    numbers = [value for text in classes if (value := as_number(text)) is not None]
    rows = len(texts) / len(classes)
    what = ""
    if len(numbers) == len(classes) and len(classes) > FEW:
        if not all(value.is_integer() for value in numbers):
            what = f"{len(classes)} different numbers with fractions, a quantity"
        elif rows < ROWS_OF_A_CLASS:
            what = f"{len(classes)} different whole numbers, {rows:.1f} rows each on average, a quantity"
    for mark in (";", "|", ","):
        parts = {name: {part.strip() for part in name.split(mark)} for name in classes if mark in name}
        times = Counter(part for own in parts.values() for part in own)
        # Each part is a label by itself, or in another cell too; in names such as "Doe, Jane" hardly one is.
        if parts and all(count > 1 or part in classes for part, count in times.items()):
            what = f"cells such as {next(iter(parts))!r}, several labels a row"
    if what:
        advice = "one class a row is learned; give label=COLUMN, or a column of classes made from this one"
        raise origin.error(f"the column {label} has {what}: {advice}")


def _groups(texts: list[str]) -> np.ndarray:
    numbers: dict[str, int] = {}
    return np.array(
        [-1 if is_missing(text) else numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.int64
    )


def _given(origin: DatasetSpec, table: Table) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the test and the validation rows, where a column of the table marks them."""
    if not origin.split:
        return None, None
    parts = []
    for line, text in zip(table.lines, table.columns[origin.split], strict=True):
        if not (part := part_of(text)):
            raise UsageError("split", origin.split, f"{line} has {text!r}; allowed are train, val and test")
        parts.append(part)
    given = np.array(parts)
    if "train" not in parts:
        raise UsageError("split", origin.split, "no row has train")
    test, validation = (given == part if part in parts else None for part in ("test", "val"))
    return test, validation
