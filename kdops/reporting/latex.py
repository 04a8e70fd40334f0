"""The tables of a report as LaTeX, in the style of the package booktabs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kdops.reporting.document import Block, Details, Table

REPLACED = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    # At the start of a row a bracket would be the argument of the line break before it.
    "[": r"{[}",
    "]": r"{]}",
    "²": r"\textsuperscript{2}",
    "→": r"$\rightarrow$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "±": r"$\pm$",
    "−": r"$-$",
    "×": r"$\times$",
    "…": r"\ldots{}",
}
LONG = 45
"""Characters of a cell beyond which its column breaks lines."""


def latex(blocks: Sequence[Block], labels: str) -> str:
    """Write the tables among blocks as LaTeX.

    Args:
        blocks: a report's content; what is no table is left out.
        labels: what the labels of the tables begin with, letters, digits and hyphens.
    """
    head = ["% \\usepackage{booktabs}", "% \\usepackage[T1]{fontenc}"]
    tables = (_table(table, f"tab:{labels}-{number}") for number, table in enumerate(_tables(blocks), start=1))
    return "\n\n".join(["\n".join(head), *tables]) + "\n"


def latex_text(text: str) -> str:
    """Return any text as one line of LaTeX that prints it as it is."""
    escaped = "".join(REPLACED.get(letter, letter) for letter in " ".join(text.split()) if letter.isprintable())
    return escaped.replace("--", "-{}-")  # two of them would become a dash


def _tables(blocks: Sequence[Block]) -> Iterator[Table]:
    for block in blocks:
        if isinstance(block, Table):
            yield block
        elif isinstance(block, Details):
            yield from _tables(block.blocks)


def _table(table: Table, label: str) -> str:
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            r"\small",
            f"\\caption{{{latex_text(table.caption)}}}",
            f"\\label{{{label}}}",
            f"\\begin{{tabular}}{{{_columns(table)}}}",
            r"\toprule",
            _row(table.header),
            r"\midrule",
            *map(_row, table.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _columns(table: Table) -> str:
    longest = [max(len(row[column]) for row in (table.header, *table.rows)) for column in range(len(table.header))]
    wide = [column for column, length in enumerate(longest) if length > LONG and column not in table.numbers]
    paragraph = f"p{{{0.55 / max(len(wide), 1):.2f}\\linewidth}}"
    return "".join("r" if c in table.numbers else paragraph if c in wide else "l" for c in range(len(longest)))


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(latex_text, cells)) + r" \\"
