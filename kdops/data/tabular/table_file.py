"""Reads the file of a table: text cells by column, which are parted by comma, semicolon, tab, bar or blanks.

The first line names the columns, and which of these parts them is what it has most of. The file may be compressed by
gzip, and Parquet files are read too.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, TextIO, cast

import psutil

from kdops.data.tabular.csv_lines import bounded_lines
from kdops.data.tabular.rows import as_number, is_missing

DELIMITERS = ",;\t|"
MOST_COLUMNS = 10_000
GROWTH = 30
"""A cell of a few bytes becomes an object of Python, and an entry of a row."""
CHECKED = 2**20
"""Characters after which the room for what comes from a compressed file is looked at again."""
GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
FALLBACK = "cp1252"
"""The encoding of files that are not UTF-8: what Excel writes in Western Europe and America."""

_COMMA = re.compile(r"[-+]?\d+(,\d+)?")
_THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")
_INDEX = re.compile(r"__index_level_\d+__")


class TableError(ValueError):
    """A file that is no table, and why, in a sentence."""


@dataclass(frozen=True)
class Table:
    """The cells of a table.

    Attributes:
        columns: the text of each row by column.
        lines: what each row is called, such as ``line 2``.
        remarks: what was done to read it, a phrase each.
    """

    columns: dict[str, list[str]]
    lines: list[str]
    remarks: tuple[str, ...] = ()

    def rows(self, names: list[str]) -> list[dict[str, str]]:
        """Return each row as a dict of some columns."""
        return [dict(zip(names, cells, strict=True)) for cells in zip(*map(self.columns.get, names), strict=True)]


def read_table(path: Path, is_used: Callable[[str], bool] = lambda column: True) -> Table:
    """Read a table.

    Args:
        path: the file: text in UTF-8, UTF-16 with its mark, or else Windows' cp1252, gzipped or not; or Parquet.
        is_used: whether a column's cells are looked at; those of others are left as they are.

    Raises:
        TableError: it is not there, or no table.
    """
    # Unlike the path's own methods these do not raise for a name that is too long, or where nothing may be seen.
    if not os.path.exists(path):
        raise TableError("there is no such file")
    if not os.path.isfile(path):
        raise TableError("must be a file")
    _check_room(os.path.getsize(path))
    try:
        with open(path, "rb") as file:
            start = file.read(len(PARQUET))
        if start == PARQUET:
            return _parquet(path)
        compressed = start[:2] == GZIP
        if compressed:
            with gzip.open(path) as unpacked:
                start = unpacked.read(2)
        encoding = "utf-16" if start[:2] in WIDE else "utf-8-sig"
        try:
            return _text(path, compressed, encoding, is_used)
        except UnicodeError:
            read = _text(path, compressed, FALLBACK, is_used)
            return replace(read, remarks=(*read.remarks, f"read as {FALLBACK}, since it is not UTF-8"))
    except (OSError, EOFError, zlib.error, UnicodeError, csv.Error) as error:
        reason = "it is no text" if isinstance(error, UnicodeError) else " ".join(str(error).split())
        raise TableError(f"cannot be read as a table ({reason})") from error


def _check_room(size: int) -> None:
    """Refuse a table that has no room in memory."""
    room = psutil.virtual_memory().available
    if size * GROWTH > room:
        raise TableError(
            f"a table of {size / 1e9:.1f} GB takes {GROWTH} times as much memory, and {room / 1e9:.1f} GB are free"
        )


def _text(path: Path, compressed: bool, encoding: str, is_used: Callable[[str], bool]) -> Table:
    """Read a table of text."""
    with cast(TextIO, (gzip.open if compressed else open)(path, "rt", encoding=encoding, newline="")) as file:
        lines_of = bounded_lines(file)
        first = next(lines_of, "")
        delimiter = max(DELIMITERS, key=first.count)
        if delimiter not in first and len(first.split()) > 1:
            delimiter, first, lines_of = " ", _single_blanks(first), map(_single_blanks, lines_of)
        reader = csv.reader(
            chain([first], lines_of), delimiter=delimiter, skipinitialspace=delimiter != " ", strict=True
        )
        names = [name.strip() for name in next(reader, [])]
        _check_names(names)
        cells, lines, size, checked = [], [], 0, 0
        for row in reader:
            if not row:
                continue
            if len(row) != len(names):
                raise TableError(f"line {reader.line_num} has {len(row)} cells, and the first {len(names)}")
            cells.append([cell.strip() for cell in row])
            lines.append(f"line {reader.line_num}")
            size += sum(map(len, row)) + len(row)
            if compressed and size > checked + CHECKED:
                checked = size
                _check_room(size)  # what is compressed says nothing of its size beforehand
    return _table(names, cells, lines, lambda name: delimiter != "," and is_used(name))


def _parquet(path: Path) -> Table:
    """Read a table of Parquet; what is no text or number becomes its text."""
    import pyarrow as pa
    from pyarrow import compute, parquet

    try:
        schema = parquet.read_schema(path)
        if nested := [name for name, kind in zip(schema.names, schema.types, strict=True) if pa.types.is_nested(kind)]:
            raise TableError(f"has lists or records in the column {nested[0]}; give one value a cell")
        texts = [name for name, kind in zip(schema.names, schema.types, strict=True) if _is_text(pa, kind)]
        # By their dictionaries texts take no more memory than in the file until they are looked at.
        file = parquet.ParquetFile(path, read_dictionary=texts)
        about = file.metadata
        unpacked = sum(about.row_group(number).total_byte_size for number in range(about.num_row_groups))
        _check_room(max(unpacked, about.num_rows * len(schema.names) * 4))
        read, size = file.read(), 0
        for column in read.columns:
            for chunk in column.chunks:
                if pa.types.is_dictionary(chunk.type):
                    size += compute.sum(compute.binary_length(chunk.dictionary).take(chunk.indices)).as_py() or 0
        _check_room(size)
        columns = [list(map(_cell, column.to_pylist())) for column in read.columns]
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(f"cannot be read as Parquet ({' '.join(str(error).split())[:120]})") from error
    names = list(map(str, schema.names))
    _check_names(names)
    cells = [list(row) for row in zip(*columns, strict=True)]
    return _table(names, cells, [f"row {number}" for number in range(1, len(cells) + 1)], lambda name: False)


def _cell(value: object) -> str:
    return "" if value is None else str(value).strip()


def _is_text(pa: Any, kind: object) -> bool:
    return any(check(kind) for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary))


def _table(names: list[str], cells: list[list[str]], lines: list[str], may_have_commas: Callable[[str], bool]) -> Table:
    """Return the columns; without an index that has no name, and with decimal points for commas."""
    if not cells:
        raise TableError("has no rows below the first line, which names the columns")
    columns = dict(zip(names, map(list, zip(*cells, strict=True)), strict=True))
    remarks = []
    if "" in columns:
        numbers = columns.pop("")
        if not all(text.isdecimal() for text in numbers) or len(set(numbers)) < len(numbers):
            raise TableError("column 1 has no name in the first line")
        remarks.append("without its first column, which has no name and numbers the rows")
    for index in filter(_INDEX.fullmatch, list(columns)):
        del columns[index]
        remarks.append(f"without {index}, the index of a data frame")
    _check_header(columns)
    if commas := [name for name, texts in columns.items() if may_have_commas(name) and _has_commas(name, texts)]:
        for name in commas:
            columns[name] = [text.replace(",", ".") for text in columns[name]]
        remarks.append(f"with decimal commas in {', '.join(commas[:3])}{', ...' * (len(commas) > 3)}")
    return Table(columns, lines, tuple(remarks))


def _check_header(columns: dict[str, list[str]]) -> None:
    """Refuse a first line that looks like the rows below it."""
    among = [name for name, texts in columns.items() if name in texts]
    if among and (len(among) == len(columns) or any(as_number(name) is not None for name in columns)):
        raise TableError(
            f"has no line that names the columns: its first line looks like a row ({among[-1]!r} is a value of rows "
            "below too); add such a line"
        )


def _has_commas(name: str, texts: list[str]) -> bool:
    """Return whether a column is of numbers with decimal commas."""
    known = [text for text in texts if not is_missing(text)]
    written = [text for text in known if "," in text]
    if not written or not all(map(_COMMA.fullmatch, known)):
        return False
    if all(map(_THOUSANDS.fullmatch, written)):
        raise TableError(
            f"the column {name} has {written[0]!r}, where the comma may part thousands or decimals; write decimal "
            "points, and nothing between thousands"
        )
    return True


def _single_blanks(line: str) -> str:
    return re.sub(r"[ ]+", " ", line.strip(" ")).replace(" \n", "\n").replace(" \r", "\r")


def _check_names(names: list[str]) -> None:
    if not any(names):
        raise TableError("is empty; its first line must name the columns")
    if len(names) > MOST_COLUMNS:
        raise TableError(f"has {len(names):,} columns, and {MOST_COLUMNS:,} are allowed")
    if all(as_number(name) is not None for name in names):
        raise TableError("has numbers only in its first line, which must name the columns; add such a line")
    counts = Counter(names)
    for number, name in enumerate(names, start=1):
        # One without a name in front may be an index; whether it is its cells decide.
        if (not name and (number > 1 or len(names) == 1)) or not (name.isprintable()):
            raise TableError(f"column {number} has no name in the first line")
        if counts[name] > 1:
            raise TableError(f"two columns are called {name}")
