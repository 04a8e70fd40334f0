"""Draw the claims on the pages of docs/papers from their tables.

    python tools/draw_claims.py

A table of claims has a column of claims and, for each data set, a column of differences in points with their intervals
and one of answers. Each becomes ``docs/papers/figures/NAME-claims.png``, or, of several tables, ``NAME-claims-2.png``
and so on; digits are a stage for trying an experiment and are not drawn. A study draws the same from its own findings;
the pages state what was measured then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from kdops.reporting.claims_figure import claims_figure
from kdops.verdicts.findings import LEVEL, Finding
from kdops.verdicts.intervals import Interval

PAGES = Path(__file__).parents[1] / "docs" / "papers"
DIFFERENCE = re.compile(r"^([+-]\d[\d.]*) \(([+-]?\d[\d.]*) to ([+-]?\d[\d.]*)\)$")
REPLICATES = re.compile(r"n = (\d+)")
ASIDE = re.compile(r" \[from memory\]|`")


def main() -> None:
    """Draw the tables of claims of every page."""
    for page in sorted(PAGES.glob("*.md")):
        tables = [table for table in tables_of(page.read_text("utf-8")) if table[1]]
        for number, (title, findings) in enumerate(tables, 1):
            name = f"{page.stem}-claims{f'-{number}' if number > 1 else ''}.png"
            claims_figure(title, findings).savefig(PAGES / "figures" / name, dpi=130, metadata={"Software": None})
            print(f"{name}: {len(findings)} claims")


def tables_of(text: str) -> Iterator[tuple[str, list[Finding]]]:
    """Yield the title and the claims of each table of claims and data set of a page."""
    title, replicates = text.splitlines()[0].removeprefix("# "), 3
    for block in re.split(r"\n\s*\n", text):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        if not lines:
            replicates = int(found[-1]) if (found := REPLICATES.findall(block)) else replicates
            continue
        heads, *rows = (cells(line) for line in lines)
        if not heads[0].startswith("claim"):
            continue
        own = [int(n) for n in REPLICATES.findall(lines[0])] or [replicates]
        for place in (place for place, head in enumerate(heads) if head in ("replicates", "holds")):
            shown = heads[place - 1].partition(" (")[0]
            if shown == "digits":
                continue
            where = "" if shown == "measured" else f", {shown}"
            yield f"{title}{where}", list(findings_of(rows, place, own[0]))


def findings_of(rows: list[list[str]], place: int, replicates: int) -> Iterator[Finding]:
    """Yield the differences of a table, whose answers stand in one column and their numbers in the one before."""
    for row in rows:
        if (match := DIFFERENCE.match(row[place - 1])) is None:
            continue
        mean, low, high = (float(number) / 100 for number in match.groups())
        answer = row[place].split()[0].strip(":,")
        name = ASIDE.sub("", row[0])
        yield Finding(name, name, Interval(mean, low, high, replicates, LEVEL), "difference", answer, "")


def cells(line: str) -> list[str]:
    """Return the cells of a line of a table."""
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


if __name__ == "__main__":
    main()
