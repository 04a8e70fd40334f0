"""What decides a model's weights, as one digest: equal fingerprints mean the same training.

It covers the settings that reach the training, the data, the split, the source's weights, the code that decides
weights and metrics, the versions and threads that change the last bits, and what is stacked in one pass.

The code is a core, which all units share, and plug-ins: the file of the unit's own method, of its own family of
networks and of its source's, each with its helpers, the files that it imports and the core does not. So a new method or
family retrains nothing, and a changed file only the models that it decides. Engines decide nothing.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

from kdops.config.architectures import FAMILIES, FunctionNet, TorchvisionNet
from kdops.config.companies import COMPANIES
from kdops.config.engines import ENGINES
from kdops.config.methods import METHODS

ROOMS = ("training", "models", "distillation")
"""Rooms whose files all decide weights or metrics."""

OTHERS = (
    *("config/composed.py", "config/families.py", "config/recipe_settings.py", "data/memmap.py"),
    *("data/selection.py", "data/views.py"),
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
    """Return the files that decide the models of all methods and families.

    Of the rooms these are the files that no plug-in uses, and those that they import: what only plug-ins import is a
    helper of theirs.
    """
    imports, plugins = _imports(), plugin_files()
    used = _reached(plugins, imports)
    own = _reached({name for name in imports if name not in used}, {**imports, **dict.fromkeys(plugins, ())})
    return tuple(sorted({*own, *OTHERS} - plugins))


@cache
def helpers_of(plugin: str) -> tuple[str, ...]:
    """Return the files of the rooms that a plug-in imports, directly or not, and the core does not.

    Args:
        plugin: its file.
    """
    others = {*core_files(), *plugin_files()} - {plugin}
    return tuple(sorted(_reached({plugin}, {**_imports(), **dict.fromkeys(others, ())}) - others - {plugin}))


@cache
def _imports() -> Mapping[str, tuple[str, ...]]:
    """Return for each file of the rooms the files of the rooms that it imports, also within functions."""
    folder = files("kdops")
    here = {
        f"{room}/{one.name}": one.read_text(encoding="utf-8")
        for room in ROOMS
        for one in folder.joinpath(room).iterdir()
        if one.name.endswith(".py")
    }
    named = {name: {_file(module) for module in _modules(text)} for name, text in here.items()}
    return {name: tuple(sorted(found & here.keys())) for name, found in named.items()}


@cache
def _modules(text: str) -> tuple[str, ...]:
    """Return the names that a file imports, each of which may be a module."""
    found: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [one.name for one in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{one.name}" for one in node.names)]
    return tuple(found)


def _reached(starts: Iterable[str], imports: Mapping[str, Iterable[str]]) -> set[str]:
    """Return some files and all that they import, directly or not."""
    found, new = set[str](), set(starts)
    while new:
        found |= new
        new = {other for name in new for other in imports.get(name, ())} - found
    return found


@cache
def code_digest(plugins: tuple[str, ...] = ()) -> str:
    """Return the digest of the core's code and that of some plug-ins, see :func:`digest_code`.

    Args:
        plugins: modules, ``kdops.distillation.dkd``.
    """
    core = _digest_of(core_files()) if not plugins else code_digest()
    own = [(_file(module), *helpers_of(_file(module))) for module in plugins]
    return fingerprint(core=core, plugins=[_digest_of(names) for names in own]) if plugins else core


def whole_digest() -> str:
    """Return the digest of the core's code and that of all methods, families and engines: what a worker must share."""
    return _digest_of(tuple(sorted({*_imports(), *OTHERS})))


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
        digest.update(_plain(source).encode())
    return digest.hexdigest()


@cache
def _plain(source: str) -> str:
    """Return Python code without comments and docstrings, in one layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def fingerprint(**what: object) -> str:
    """Return the SHA-256 of named plain values, whatever their order."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
