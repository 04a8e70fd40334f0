"""The lines of a table's file, none longer than memory has room for: the file may hold any bytes."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import TextIO

LONGEST = 2**20
"""The most characters of a line; a table of 4,096 columns fits."""


def bounded_lines(file: TextIO) -> Iterator[str]:
    """Yield the lines of a file one by one.

    Args:
        file: opened with ``newline=""``, at its beginning.

    Raises:
        csv.Error: a line is too long, or has a character of code 0, which no text has.
    """
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            raise csv.Error(f"line {number} has more than {LONGEST:,} characters")
        if "\0" in line:
            raise csv.Error(f"line {number} has a character of code 0")
        yield line
