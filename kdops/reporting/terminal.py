"""Tables on the terminal: without a frame, so that they fit into 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

__all__ = ["Side", "plain_console", "plain_table", "print_whole_lines", "unbounded"]

Side = Literal["left", "right"]

ENDLESS = 10_000
"""A width that no line reaches."""


def plain_console() -> Console:
    """Return the terminal, or what standard output is."""
    return Console(highlight=False, soft_wrap=True)


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


def unbounded(console: Console) -> ConsoleOptions:
    """Return the options of a terminal without a right edge."""
    return console.options.update(max_width=ENDLESS)


def print_whole_lines(console: Console, table: Table) -> None:
    """Print each row on one line. One that is too long wraps in the terminal; cut short it would lose letters."""
    for line in console.render_lines(table, unbounded(console), pad=False):
        console.print(Text("".join(segment.text for segment in line).rstrip()))
