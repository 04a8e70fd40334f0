"""A hook of mkdocs: show references of docstrings as plain code.

Docstrings refer to other names as Sphinx does, with a role before the name in backquotes; editors read that, and
mkdocstrings shows the role as text.
"""

from __future__ import annotations

import re

ROLE = re.compile(r":(?:class|meth|func|mod|attr|data):(<code[^>]*>)~?(?:kdops\.(?:\w+\.)*)?")


def on_page_content(html: str, **_: object) -> str:
    """Return the page with the roles taken out, and names without the module that they are in."""
    return ROLE.sub(r"\1", html)
