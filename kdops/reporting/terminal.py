"""Tables on the terminal: without a frame, so that they fit into 80 columns."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.control import strip_control_codes
from rich.table import Table

Side = Literal["left", "right"]

GAP = "  "
"""Between two columns."""

BLOCK = 500
"""Lines that are printed at a time."""


def plain_console() -> Console:
    """Return the terminal, or what standard output is."""
    # Rich takes FORCE_COLOR, which notebooks set, for a terminal.
    return Console(highlight=False, soft_wrap=True, force_terminal=None if sys.stdout.isatty() else False)


def plain_table(columns: Sequence[tuple[str, Side]], wraps: str = "") -> Table:
    """Return an empty table without a frame.

    Args:
        columns: their headings and sides.
        wraps: the heading of the one column that may break lines.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name, side in columns:
        table.add_column(name, justify=side, no_wrap=name != wraps)
    return table


class PlainTable:
    """A table without a frame whose rows are one line each, however many there are: Rich takes a second a thousand."""

    def __init__(self, columns: Sequence[tuple[str, Side]], rows: Iterable[Sequence[str]]):
        self._sides = [side for _, side in columns]
        # Most cells of thousands of rows are the same texts, which are kept once.
        kept: dict[str, str] = {}
        headed = chain([[name for name, _ in columns]], rows)
        self._rows = [[kept.setdefault(text, text) for text in map(strip_control_codes, row)] for row in headed]
        self._widths = [max(map(cell_len, cells)) for cells in zip(*self._rows, strict=True)]

    @property
    def width(self) -> int:
        """The width of its lines."""
        return sum(self._widths) + len(GAP) * (len(self._widths) - 1)

    def print(self, console: Console) -> None:
        """Print each row on one line. One that is too long wraps in the terminal; cut short it would lose letters."""
        rule = "─" if console.encoding.lower().startswith("utf") else "-"
        console.out(f"{self._line(self._rows[0])}\n{rule * self.width}", highlight=False)
        # Rich keeps what it prints several times, until all of it is written.
        for start in range(1, len(self._rows), BLOCK):
            console.out("\n".join(map(self._line, self._rows[start : start + BLOCK])), highlight=False)

    def _line(self, row: Sequence[str]) -> str:
        cells = []
        for cell, side, width in zip(row, self._sides, self._widths, strict=True):
            blank = " " * (width - cell_len(cell))
            cells.append(cell + blank if side == "left" else blank + cell)
        return GAP.join(cells).rstrip()
