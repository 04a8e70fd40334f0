"""What decides a model's weights, as one digest: equal fingerprints mean the same training.

It covers the settings that reach the training, the data, the split, the source's weights, the code that decides
weights and metrics, the versions and threads that change the last bits, and what is stacked in one pass.

The code is a core, which all units share, and plug-ins: the file of the unit's own method, of its own family of
networks and of its source's, each with its helpers, the files that it imports and the core does not. So a new method or
family retrains nothing, and a changed file only the models that it decides. Engines decide nothing. Of what is imported
from other rooms, a test says of each file that it is among these, or why its values are in the fingerprint themselves.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

from kdops.config.architectures import FAMILIES
from kdops.config.companies import COMPANIES
from kdops.config.engines import ENGINES
from kdops.config.families import Architecture
from kdops.config.methods import METHODS
from kdops.config.networks_of_others import FunctionNet, TorchvisionNet

ROOMS = ("training", "models", "distillation")
"""Rooms whose files all decide weights or metrics."""

CONFIG = "config"
"""Its files decide where a plug-in imports them and the core does not: the family ``tree`` has one of its own."""

OTHERS = (
    *("config/composed.py", "config/families.py", "config/networks_of_others.py", "config/recipe_settings.py"),
    *("data/memmap.py", "data/image_selection.py", "data/views.py"),
    *("sweeps/unit.py", "utils/hardware.py", "utils/random.py"),
)
"""Files of other rooms that do. Values are in the fingerprint themselves, such as recipes and the names of streams."""


@cache
def plugin_files() -> frozenset[str]:
    """Return the files that decide only the models of one method or one family, or, of an engine, of none."""
    families: tuple[type[Architecture], ...] = (*FAMILIES.values(), TorchvisionNet, FunctionNet)
    specs = (*METHODS.values(), *COMPANIES.values(), *(family.spec for family in families), *ENGINES.values())
    return frozenset(_file(spec.place.partition(":")[0]) for spec in specs)


@cache
def core_files() -> tuple[str, ...]:
    """Return the files that decide the models of all methods and families.

    Of the rooms these are the files that no plug-in uses, and those that they import: what only plug-ins import is a
    helper of theirs.
    """
    return tuple(sorted({*(_used_by_core() & _imports().keys()), *OTHERS} - plugin_files()))


@cache
def helpers_of(plugin: str) -> tuple[str, ...]:
    """Return the files of the rooms that a plug-in imports, directly or not, and the core does not."""
    others = {*core_files(), *_used_by_core(), *plugin_files()} - {plugin}
    return tuple(sorted(_reached({plugin}, {**_imports(), **dict.fromkeys(others, ())}) - others - {plugin}))


@cache
def _used_by_core() -> frozenset[str]:
    """Return the files that no plug-in uses, and those that they import, of the rooms and of ``CONFIG``."""
    imports, plugins = _imports(), plugin_files()
    used = _reached(plugins, imports)
    own = {name for name in imports if name not in used}
    return frozenset(_reached(own, {**imports, **dict.fromkeys(plugins, ())}))


@cache
def _imports() -> Mapping[str, tuple[str, ...]]:
    """Return for each file of the rooms the files of the rooms and of ``CONFIG`` that it imports, in functions too."""
    here = {f"{room}/{one.name}": one for room in (*ROOMS, CONFIG) for one in files("kdops").joinpath(room).iterdir()}
    text = {name: one.read_text(encoding="utf-8") for name, one in here.items() if name.endswith(".py")}
    found = {name: {_file(module) for module in _modules(code)} & text.keys() for name, code in text.items()}
    return {name: tuple(sorted(own)) for name, own in found.items() if name.partition("/")[0] in ROOMS}


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
    """Return the digest of the core's code and that of plug-ins, modules such as ``kdops.distillation.dkd``."""
    core = _digest_of(core_files()) if not plugins else code_digest()
    own = [(_file(module), *helpers_of(_file(module))) for module in plugins]
    return fingerprint(core=core, plugins=[_digest_of(names) for names in own]) if plugins else core


def whole_digest() -> str:
    """Return the digest of the core's code and that of all methods, families and engines: what a worker must share."""
    helpers = {name for plugin in plugin_files() for name in helpers_of(plugin)}
    return _digest_of(tuple(sorted({*_imports(), *OTHERS, *helpers})))


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
