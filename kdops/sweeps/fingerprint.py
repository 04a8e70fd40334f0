"""What decides a model's weights, as one digest: equal fingerprints mean the same training.

It covers the settings that reach the training, the data, the split, the source's weights, the code that decides
weights and metrics, the versions and threads that change the last bits, and what is stacked in one pass.

The code is a core, which all units share, and plug-ins: the file of the unit's own method, of its own family of
networks and of its source's. So a new method or family retrains nothing, and a changed one only its own models.
Engines decide nothing.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from kdops.config.architectures import FAMILIES, FunctionNet, TorchvisionNet
from kdops.config.companies import COMPANIES
from kdops.config.engines import ENGINES
from kdops.config.methods import METHODS

ROOMS = ("training", "models", "distillation")
"""Rooms whose files all decide weights or metrics."""

OTHERS = (
    *("config/composed.py", "config/families.py", "data/memmap.py"),
    *("sweeps/unit.py", "utils/hardware.py", "utils/random.py"),
)
"""Files of other rooms that do. Values are in the fingerprint themselves, such as recipes and the names of streams."""


@cache
def plugin_files() -> frozenset[str]:
    """Return the files that decide only the models of one method or one family, or, of an engine, of none."""
    families = (*FAMILIES.values(), TorchvisionNet, FunctionNet)
    specs = (*METHODS.values(), *COMPANIES.values(), *(family.spec for family in families), *ENGINES.values())
    return frozenset(_file(spec.place.partition(":")[0]) for spec in specs)


@cache
def core_files() -> tuple[str, ...]:
    """Return the files that decide the models of all methods and families."""
    folder = files("kdops")
    here = [
        f"{room}/{one.name}" for room in ROOMS for one in folder.joinpath(room).iterdir() if one.name.endswith(".py")
    ]
    return tuple(sorted({*here, *OTHERS} - plugin_files()))


@cache
def code_digest(plugins: tuple[str, ...] = ()) -> str:
    """Return the digest of the core's code and that of some plug-ins, see :func:`digest_code`.

    Args:
        plugins: modules, ``kdops.distillation.dkd``.
    """
    core = _digest_of(core_files()) if not plugins else code_digest()
    return fingerprint(core=core, plugins=[_digest_of((_file(module),)) for module in plugins]) if plugins else core


@cache
def _digest_of(names: tuple[str, ...]) -> str:
    return digest_code((files("kdops") / name).read_text(encoding="utf-8") for name in names)


def _file(module: str) -> str:
    """Return the file of a module within kdops."""
    return module.removeprefix("kdops.").replace(".", "/") + ".py"


def digest_code(sources: Iterable[str]) -> str:
    """Return the SHA-256 of Python code; comments, docstrings and layout do not count."""
    digest = hashlib.sha256()
    for source in sources:
        tree = ast.parse(source)
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list):
                node.body = [part for part in body if not _is_text(part)]  # type: ignore[attr-defined]
        digest.update(ast.unparse(tree).encode())
    return digest.hexdigest()


def fingerprint(**what: object) -> str:
    """Return the SHA-256 of named plain values, whatever their order."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
