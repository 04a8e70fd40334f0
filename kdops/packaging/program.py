"""Exported programs (pt2), opened without running anything that lies in them or beside them.

``torch.export.load`` passes each symbolic expression of a program to ``sympy.sympify``, which evaluates it as Python,
looks an operator up as an attribute of ``torch``, through which other modules can be reached, imports what the
description of the inputs and outputs names, writes the names of values into Python code that it then runs, and
unpickles weights, constants and examples (PyTorch 2.15). So all of it is checked before.

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

OPERATOR = re.compile(
    r"torch\.ops\.(?:aten|prims|quantized|quantized_decomposed|torchvision)"
    r"\.(?!(?:save|from_file)\.)(?:(?!__)\w+|__i?(?:and|or|xor|lshift|rshift)__)\.[A-Za-z]\w*"
    r"|torch\.ops\.higher_order\.(?:cond|while_loop|map_impl|scan|associative_scan|invoke_subgraph|flex_attention"
    r"|wrap_with_autocast|wrap_with_set_grad_enabled)"
    r"|torch\.sym_\w+|math\.[a-z]\w*"
    r"|_operator\.(?:abs|add|and_|eq|floordiv|ge|getitem|gt|le|lshift|lt|mod|mul|ne|neg|or_|pos|pow|rshift|sub|truediv"
    r"|xor)|"
)
"""Operators on tensors and sizes. ``torch.ops`` also imports modules and loads libraries, ``_operator`` also calls what
it is given, and ``aten`` has two that write files."""

GUARD = re.compile(
    r"(?:L\['\w+'\](?:\[(?:\d{1,9}|'\w+')\])*(?:\.(?:size|stride)\(\)\[\d{1,9}\])?"
    r"|\d{1,19}|[-+*/%()<>=! ]|and|or|not)*"
)
"""A guard is run as Python: sizes of inputs, numbers, comparisons."""

MODEL = "models/model.json"

IDENTIFIER = re.compile(r"\w*")
"""The name of a value, an argument or a key: it stands in the code that PyTorch writes for the graph."""

NAME = re.compile(r"[\w .:+/-]*")
"""Any other name: of a weight, which stands there between quotation marks, a module, a device, a version."""

KINDS = {
    "expr_str": (EXPRESSION, "expression"),
    "target": (OPERATOR, "operator"),
    "as_operator": (OPERATOR, "operator"),
    "guards_code": (GUARD, "guard"),
    **dict.fromkeys(("name", "as_name", "forward_arg_names", "user_input_name"), (IDENTIFIER, "name")),
}
NOTES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node", "custom")
DATA = ("as_string", "as_strings", *NOTES)
"""Texts that PyTorch keeps, or passes to an operator, as they are."""

CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict")

MOST_CHARACTERS = 2_000


def load_program(path: Path) -> nn.Module:
    """Load an exported program, which stays what it was exported as: ``train()`` and ``eval()`` change nothing.

    MLflow's check that there is no pickle is called here itself: ``mlflow.pytorch.load_model`` would first put the
    model's own code on Python's path.

    Raises:
        MlflowException: it holds a pickle, or is no such archive.
        ValueError: it holds something that would run code, see :func:`check_archive`.
    """
    check_archive(path)
    _validate_pt2_archive_is_pickle_free(str(path))
    network = torch.export.load(path).module()
    # PyTorch's raise an error, also for any network that the program is a part of.
    network.train = network.eval = lambda mode=True: network  # type: ignore[method-assign,misc]
    return network


def check_archive(path: Path) -> None:
    """Check that an exported program holds nothing that runs when it is opened, and is no larger than its file.

    Raises:
        ValueError: its records unpack to more than the file has, Python and PyTorch read them differently, it has
            compiled code, or an expression, an operator, a guard, a name or a description of its inputs and outputs is
            none that PyTorch writes.
    """
    # Not above: it brings sympy and torch's compiler, seconds that a study with nothing to load need not spend.
    from torch.export.pt2_archive import PT2ArchiveReader

    with zipfile.ZipFile(path) as archive, PT2ArchiveReader(str(path)) as as_torch:
        _check_sizes(archive, os.path.getsize(path))
        # By the name without the archive's own folder, as PyTorch reads them.
        records = {record.filename.partition("/")[2]: record for record in archive.infolist() if not record.is_dir()}
        if sorted(as_torch.get_file_names()) != sorted(records):
            raise ValueError("Python and PyTorch find different records in it")
        for name, record in records.items():
            content = archive.read(record)
            if content != as_torch.read_bytes(name):
                raise ValueError(f"Python and PyTorch read its record {name!r} differently")
            if name.startswith("data/aotinductor/"):
                raise ValueError(f"its record {name!r} is compiled code")
            if name.startswith("models/"):
                # PyTorch reads each record there as a model, and its weights from where the model's name points: by
                # another name at records that MLflow's check takes for plain bytes, and so does not look at.
                if name != MODEL:
                    raise ValueError(f"its record {name!r} is not {MODEL}, the only model that PyTorch writes")
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
    for key, text in _texts(model):
        if key in ("in_spec", "out_spec"):
            _check_structure(text)
        elif key not in DATA:
            allowed, what = KINDS.get(key, (NAME, "name"))
            _check(allowed, text, what)


def _texts(model: object) -> Iterator[tuple[str, str]]:
    """Yield every text at any depth, with the key of the object that it or its list lies in.

    No object is left out, whatever its key: the names of values are keys too.
    """
    left: list[tuple[str, object]] = [("", model)]
    while left:
        key, value = left.pop()
        if isinstance(value, dict) and key != "expr_str":
            left += value.items()
        elif isinstance(value, list):
            left += [(key, one) for one in value]
        elif isinstance(value, str) or key == "expr_str":
            yield key, str(value)


def _check_structure(text: str) -> None:
    """Check how a program's inputs or outputs are nested, see ``torch.utils._pytree.treespec_loads``.

    PyTorch imports the module that an enumeration or a ``defaultdict`` among them names.
    """
    refused = ValueError(f"its structure {text[:80]!r} is none of tensors, tuples, lists and dicts, and might run code")
    match json.loads(text):
        case [1, dict() as structure]:
            left = [structure]
        case _:
            raise refused
    while left:
        one = left.pop()
        match one:
            case {"type": kind, "context": None | str() as context, "children_spec": list() as children} if (
                len(one) == 3 and kind in CONTAINERS
            ):
                left += children
            case _:
                raise refused
        keys = json.loads(context or "null") or []
        if not isinstance(keys, list) or any(isinstance(key, list | dict) for key in keys):
            raise refused
        for key in keys:
            _check(IDENTIFIER, str(key), "key")


def _check(allowed: re.Pattern[str], text: str, what: str) -> None:
    if len(text) > MOST_CHARACTERS or not allowed.fullmatch(text):
        raise ValueError(f"its {what} {text[:80]!r} is none that PyTorch writes, and might run code")
