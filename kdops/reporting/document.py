"""A report's content, apart from how it is written: headings, paragraphs, tables, figures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the title."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; ``lead`` stands before the text and stands out."""

    text: str
    lead: str = ""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: what it shows.
        header: the headings.
        rows: the cells, as many in each row as there are headings.
        numbers: the columns that hold numbers, counted from 0.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        name: a file name that is safe in any folder.
        caption: what it shows.
        image: PNG.
    """

    name: str
    caption: str
    image: bytes


@dataclass(frozen=True)
class Details:
    """Details for few readers: shown folded where that is possible."""

    summary: str
    blocks: tuple[Block, ...]


Block = Heading | Paragraph | Table | Figure | Details
