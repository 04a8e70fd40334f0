"""Exported programs (pt2), opened without running anything that lies in them or beside them.

``torch.export.load`` passes each symbolic expression of a program to ``sympy.sympify``, which evaluates it as Python,
looks an operator up as an attribute of ``torch``, through which other modules can be reached, and unpickles weights,
constants and examples (PyTorch 2.15). So all of it is looked at before.

A copy of this file travels with each model and opens its program where it is served: it needs nothing of kdops.
"""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from mlflow.pytorch import _validate_pt2_archive_is_pickle_free
from torch import nn

__all__ = ["check_archive", "load_program"]

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


def load_program(path: Path) -> nn.Module:
    """Load an exported program.

    MLflow's check that there is no pickle is called here itself: ``mlflow.pytorch.load_model`` would first put the
    model's own code on Python's path.

    Args:
        path: the archive.

    Raises:
        MlflowException: it holds a pickle, or is no such archive.
        ValueError: it holds something that would run code, see :func:`check_archive`.
    """
    check_archive(path)
    _validate_pt2_archive_is_pickle_free(str(path))
    return torch.export.load(path).module()


def check_archive(path: Path) -> None:
    """Check that an exported program holds nothing that runs when it is opened, and is no larger than its file.

    Args:
        path: the archive.

    Raises:
        ValueError: its records unpack to more than the file has, Python and PyTorch read them differently, or an
            expression, an operator or a guard is none that PyTorch writes.
    """
    # Not above: it brings sympy and torch's compiler, seconds that a study with nothing to load need not spend.
    from torch.export.pt2_archive import PT2ArchiveReader

    with zipfile.ZipFile(path) as archive:
        _check_sizes(archive, os.path.getsize(path))
        # By the name without the archive's own folder, as PyTorch reads them.
        records = {record.filename.partition("/")[2]: record for record in archive.infolist() if not record.is_dir()}
        as_torch = PT2ArchiveReader(str(path))
        if sorted(as_torch.get_file_names()) != sorted(records):
            raise ValueError("Python and PyTorch find different records in it")
        for name, record in records.items():
            content = archive.read(record)
            if content != as_torch.read_bytes(name):
                raise ValueError(f"Python and PyTorch read its record {name!r} differently")
            if re.search(r"(^|/)models/[^/]*\.json$", name):
                _check_model(json.loads(content))
            elif content.startswith(b"PK"):
                with zipfile.ZipFile(io.BytesIO(content)) as inner:
                    _check_sizes(inner, len(content))


def _check_sizes(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse an archive whose records unpack to more than it has, whatever sizes they declare."""
    records = archive.infolist()
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size:
            raise ValueError(f"its record {record.filename!r} is compressed, which PyTorch never does")
    # Records may lie on one another.
    if (total := sum(record.file_size for record in records)) > size:
        raise ValueError(f"its records have {total:,} bytes, more than the {size:,} of the file")


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
