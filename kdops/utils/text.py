"""Numbers and sentences as text, and any text as Markdown that shows it as it is."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence

SPECIAL = re.compile(r"([\\`*_\[\]<>|~$#])")
STARTS = re.compile(r"^(?:([-+])(?=[\s-]|$)|(\d{1,9})([.)])(?=\s|$))")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the start of a formula."""
NUMBER = re.compile(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?")
ENTITY = re.compile(r"&(?=#?\w+;)")


def capitalized(text: str) -> str:
    """Return a sentence with a capital letter first and the rest (``T``) as it is."""
    return text[:1].upper() + text[1:]


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as CSV, numbers in full; None and nan are empty cells.

    Texts that a spreadsheet would run as a formula, such as a file's name that begins with ``=``, get an apostrophe
    in front of them, which a spreadsheet does not show.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([csv_cell(name) for name in header])
    writer.writerows([csv_cell(value) for value in row] for row in rows)
    return stream.getvalue()


def csv_cell(value: object) -> object:
    """Return a cell of CSV: nothing for None and nan, no formula, see :func:`csv_text`."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str) or not value.startswith(FORMULA) or NUMBER.fullmatch(value):
        return value
    return f"'{value}"


def duration(seconds: float) -> str:
    """Return a duration in the unit a person would use: seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def two_digits(value: float) -> str:
    """Return a number to two significant digits, whole ones in full: ``0.077``, ``1.4``, ``138``."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def file_size(size: int) -> str:
    """Return a number of bytes in the unit that fits it, from B to GB (powers of 1000)."""
    number, units = float(size), ["B", "kB", "MB", "GB"]
    while number >= 1000 and len(units) > 1:
        number /= 1000
        units.pop(0)
    return f"{number:.0f} {units[0]}" if units[0] == "B" else f"{number:.1f} {units[0]}"


def accuracy_interval(low: float | None, high: float | None) -> str:
    """Return an interval of accuracies in [0, 1]; a single replicate has none (None or nan).

    Student's interval of few replicates may reach beyond 0 or 1, an accuracy does not.
    """
    if low is None or high is None or not math.isfinite(low):
        return "needs 2 replicates"
    return f"{max(low, 0.0):.4f} to {min(high, 1.0):.4f}"


def first_few(names: Sequence[object], most: int = 5) -> str:
    """Return the first of some names, parted by commas, and dots for the others."""
    return ", ".join(map(str, names[:most])) + (", ..." if len(names) > most else "")


def number_ranges(values: Sequence[float]) -> str:
    """Return ascending numbers as text, three whole ones or more in a row as a range: ``0-4, 6, 7.5``."""
    rows: list[list[float]] = []
    for value in values:
        if rows and value == rows[-1][-1] + 1 and float(value).is_integer():
            rows[-1].append(value)
        else:
            rows.append([value])
    return ", ".join(
        f"{row[0]:g}-{row[-1]:g}" if len(row) > 2 else ", ".join(f"{value:g}" for value in row) for row in rows
    )


def markdown_text(text: str) -> str:
    """Return any text as one line of Markdown that shows it as it is, anywhere but at the start of a block."""
    return SPECIAL.sub(r"\\\1", ENTITY.sub("&amp;", " ".join(text.split())))


def markdown_line(text: str) -> str:
    """Return any text as :func:`markdown_text` does, fit for the start of a block too, where no list may begin."""
    return STARTS.sub(lambda m: f"\\{m[1]}" if m[1] else f"{m[2]}\\{m[3]}", markdown_text(text))
