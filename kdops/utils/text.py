"""Any text, written into Markdown so that it is shown as it is."""

from __future__ import annotations

import re

__all__ = ["markdown_line", "markdown_text"]

SPECIAL = re.compile(r"([\\`*_\[\]<>|~$#])")
STARTS = re.compile(r"^(?:([-+])(?=[\s-]|$)|(\d{1,9})([.)])(?=\s|$))")
ENTITY = re.compile(r"&(?=#?\w+;)")


def markdown_text(text: str) -> str:
    """Return any text as one line of Markdown that shows it as it is, anywhere but at the start of a block."""
    return SPECIAL.sub(r"\\\1", ENTITY.sub("&amp;", " ".join(text.split())))


def markdown_line(text: str) -> str:
    """Return any text as :func:`markdown_text` does, fit for the start of a block too, where no list may begin."""
    return STARTS.sub(lambda m: f"\\{m[1]}" if m[1] else f"{m[2]}\\{m[3]}", markdown_text(text))
