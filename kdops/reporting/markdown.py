"""A report as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from kdops.reporting.document import Block, Details, Figure, Heading, Paragraph, Table
from kdops.utils.text import markdown_line, markdown_text

FIGURES = "figures"
"""The folder beside the page that its figures lie in."""


def markdown(blocks: Sequence[Block]) -> str:
    """Write blocks as Markdown; figures are files in the folder ``FIGURES`` beside it."""
    return "\n\n".join(part for block in blocks for part in _written(block)) + "\n"


def _written(block: Block) -> Iterator[str]:
    if isinstance(block, Heading):
        yield f"{'#' * block.level} {markdown_line(block.text)}"
    elif isinstance(block, Paragraph):
        lead = f"**{markdown_text(block.lead)}** " if block.lead.strip() else ""
        yield (lead + markdown_line(block.text)).strip()
    elif isinstance(block, Table):
        yield f"*{markdown_text(block.caption)}*"
        yield "\n".join(_table(block))
    elif isinstance(block, Figure):
        caption = markdown_text(block.caption)
        yield f"![{caption}]({FIGURES}/{block.name})"
        yield f"*{caption}*"
    elif isinstance(block, Details):
        # GitHub folds this, and other readers show what is in it.
        yield f"<details>\n<summary>{escape(block.summary, quote=False)}</summary>"
        yield from (part for inner in block.blocks for part in _written(inner))
        yield "</details>"


def _table(table: Table) -> Iterator[str]:
    yield _line(map(markdown_text, table.header))
    yield _line("---:" if column in table.numbers else "---" for column in range(len(table.header)))
    yield from (_line(map(markdown_text, row)) for row in table.rows)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
