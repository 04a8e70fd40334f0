"""A report as one HTML page that needs nothing else: figures inside, no scripts."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from html import escape

from kdops.reporting.document import Block, Details, Figure, Heading, Paragraph, Table

STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: #fff; color: #1a1a1a;
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; }
h2 { font-size: 1.25rem; margin-top: 2.5rem; border-bottom: 1px solid #bbb; }
h3 { font-size: 1.05rem; margin-top: 2rem; }
div.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.9rem; overflow-wrap: normal; }
caption { text-align: left; font-weight: 600; padding-bottom: 0.3rem; }
th, td { padding: 0.25rem 0.7rem 0.25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 1.5rem 0; }
img { max-width: 100%; height: auto; }
figcaption { font-size: 0.9rem; }
details { margin: 1.5rem 0; }
summary { cursor: pointer; font-weight: 600; }
"""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The browser fetches nothing and runs nothing, whatever got into the text."""


def html(title: str, blocks: Sequence[Block]) -> str:
    """Write blocks as an HTML page."""
    head = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        "</head>",
        "<body>",
    ]
    body = (part for block in blocks for part in _written(block))
    return "\n".join([*head, *body, "</body>", "</html>"]) + "\n"


def _written(block: Block) -> Iterator[str]:
    if isinstance(block, Heading):
        yield f"<h{block.level}>{escape(block.text)}</h{block.level}>"
    elif isinstance(block, Paragraph):
        lead = f"<strong>{escape(block.lead)}</strong> " if block.lead else ""
        yield f"<p>{lead}{escape(block.text)}</p>"
    elif isinstance(block, Table):
        yield '<div class="table">'
        yield f"<table>\n<caption>{escape(block.caption)}</caption>"
        yield f"<thead>{_row(block, block.header, 'th')}</thead>\n<tbody>"
        yield from (_row(block, row, "td") for row in block.rows)
        yield "</tbody>\n</table>\n</div>"
    elif isinstance(block, Figure):
        image = b64encode(block.image).decode("ascii")
        yield f'<figure>\n<img alt="{escape(block.caption)}" src="data:image/png;base64,{image}">'
        yield f"<figcaption>{escape(block.caption)}</figcaption>\n</figure>"
    elif isinstance(block, Details):
        yield f"<details>\n<summary>{escape(block.summary)}</summary>"
        yield from (part for inner in block.blocks for part in _written(inner))
        yield "</details>"


def _row(table: Table, cells: Sequence[str], tag: str) -> str:
    sides = (' class="number"' if column in table.numbers else "" for column in range(len(cells)))
    return "<tr>" + "".join(f"<{tag}{s}>{escape(c)}</{tag}>" for s, c in zip(sides, cells, strict=True)) + "</tr>"
