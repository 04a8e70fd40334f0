"""Hooks of mkdocs: show references of docstrings as plain code, and notebooks as pages.

Docstrings refer to other names as Sphinx does, with a role before the name in backquotes; editors read that, and
mkdocstrings shows the role as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROLE = re.compile(r":(?:class|meth|func|mod|attr|data):(<code[^>]*>)~?(?:kdops\.(?:\w+\.)*)?")


def on_page_content(html: str, **_: object) -> str:
    """Return the page with the roles taken out, and names without the module that they are in."""
    return ROLE.sub(r"\1", html)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the files with a page for each notebook."""
    from mkdocs.structure.files import File

    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        notebook = json.loads(file.content_string)
        files.append(File.generated(config, f"{file.src_uri.removesuffix('.ipynb')}.md", content=page_of(notebook)))
    return files


def page_of(notebook: Mapping[str, Any]) -> str:
    """Return a notebook as Markdown: its text, its code, and what that printed."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        language = "bash" if source.startswith("%%bash\n") else "python"
        parts.append(f"```{language}\n{source.removeprefix('%%bash').strip()}\n```")
        printed = "".join(map(_text, cell["outputs"])).rstrip()
        parts += [f"```text\n{printed}\n```"] if printed else []
    return "\n\n".join(parts) + "\n"


def _text(output: Mapping[str, Any]) -> str:
    """Return what a cell printed to its output, or its value."""
    if output["output_type"] == "stream":
        return "".join(output["text"]) if output["name"] == "stdout" else ""
    return "".join(output["data"]["text/plain"])
