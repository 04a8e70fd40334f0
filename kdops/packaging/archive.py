"""What an exported program (pt2) may hold: looked at before PyTorch opens it, since opening one evaluates some of it.

``torch.export.load`` gives each symbolic expression of a program to ``sympy.sympify``, which evaluates it as Python,
and looks an operator up as an attribute of ``torch``, through which other modules can be reached (PyTorch 2.15).
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["check_archive"]

FUNCTIONS = (
    "Add|And|CeilDiv|CeilToInt|CleanDiv|Eq|FloatTrueDiv|FloorDiv|FloorToInt|Ge|Gt|Integer|IntTrueDiv|Le|Lt|Max|Min|Mod|"
    "ModularIndexing|Mul|Ne|Not|Or|PythonMod|Rational|ToFloat|TruncToInt|Where"
)
TOKEN = "|".join(
    (
        r"Symbol\('[a-z]\w*'(?:, \w+=(?:True|False))*\)",
        rf"(?:{FUNCTIONS})\(",
        r"[a-z]\d+\b",
        r"(?:True|False)\b",
        r"\d{1,19}\b",
        r"[-+/(),<>= ]",
        r"\*(?!\*)",
    )
)
EXPRESSION = re.compile(rf"(?:{TOKEN})*")
"""Integers, symbols, the four operations and PyTorch's own functions of them; no power, which may take for ever."""

OPERATOR = re.compile(r"torch\.ops\.\w+\.\w+(?:\.\w+)?|torch\.sym_\w+|_operator\.\w+|math\.\w+|")

GUARD = re.compile(
    r"(?:L\['\w+'\](?:\[(?:\d{1,9}|'\w+')\])*(?:\.(?:size|stride)\(\)\[\d{1,9}\])?"
    r"|\d{1,19}|[-+*/%()<>=! ]|and|or|not)*"
)
"""A guard is run as Python: sizes of inputs, numbers, comparisons."""

MOST_CHARACTERS = 2_000
MOST_JSON_BYTES = 200_000_000


def check_archive(path: Path) -> None:
    """Check that an exported program holds nothing that runs when it is opened, and is no larger than its file.

    Args:
        path: the archive.

    Raises:
        ValueError: a record is compressed (it could unpack to any size), or an expression, an operator or a guard is
            none that PyTorch writes.
    """
    with zipfile.ZipFile(path) as archive:
        for record in archive.infolist():
            if record.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"its record {record.filename!r} is compressed, which PyTorch never does")
            if re.search(r"(^|/)models/[^/]*\.json$", record.filename):
                if record.file_size > MOST_JSON_BYTES:
                    raise ValueError(f"its record {record.filename!r} has more than {MOST_JSON_BYTES:,} bytes")
                _check_model(json.loads(archive.read(record)))


def _check_model(model: object) -> None:
    for key, value in _fields(model):
        if key == "expr_str":
            _check(EXPRESSION, value, "expression")
        elif key == "target" and isinstance(value, str):
            _check(OPERATOR, value, "operator")
        elif key == "guards_code":
            for guard in value if isinstance(value, list) else [value]:
                _check(GUARD, guard or "", "guard")


def _fields(value: object) -> Iterator[tuple[str, object]]:
    """Yield every key with its value, at any depth."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            yield from one.items()
            left += one.values()
        elif isinstance(one, list):
            left += one


def _check(allowed: re.Pattern[str], text: object, what: str) -> None:
    if not isinstance(text, str) or len(text) > MOST_CHARACTERS or not allowed.fullmatch(text):
        raise ValueError(f"its {what} {str(text)[:80]!r} is none that PyTorch writes, and might run code")
