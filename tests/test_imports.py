"""Imports go down only, and each heavy library is known to few rooms."""

import ast
import re
import sys
import tomllib
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "kdops"

# From the bottom up: a room may import itself and those below it; rooms of one line do not know each other.
ROOMS = (
    ("__init__",),
    ("errors",),
    ("utils",),
    ("config",),
    ("verdicts", "data", "models", "distillation"),
    ("papers",),
    ("sweeps",),
    ("training",),
    ("store",),
    ("packaging", "probing"),
    ("registry",),
    ("tracking",),
    ("reporting",),
    ("study",),
    ("ensembles", "search"),
    ("cli",),
)

# Which rooms may import a library, wherever in the file the import stands.
MAY_IMPORT = {
    "torch": {
        *("utils", "data", "models", "distillation", "training"),
        *("packaging", "probing", "study", "ensembles"),
    },
    "torchvision": {"data", "models"},
    "mlflow": {"store", "packaging", "registry", "tracking", "cli"},
    "optuna": {"search"},
    "typer": {"cli"},
    "matplotlib": {"reporting", "study", "ensembles", "search"},
    "onnx": {"packaging"},
    "onnxruntime": {"packaging"},
    "ray": {"training"},
    "distributed": {"training"},
}
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow"}
BROUGHT_BY_MLFLOW = {"alembic", "requests", "sqlalchemy", "yaml"}

FILES = {str(path.relative_to(PACKAGE).with_suffix("")): path for path in sorted(PACKAGE.rglob("*.py"))}
PIPELINES = {
    str(path.relative_to(ROOT / "pipelines").with_suffix("")): path for path in (ROOT / "pipelines").rglob("*.py")
}
MODULES = {"kdops." + name.replace("/", ".").removesuffix(".__init__"): name for name in FILES}


@cache
def imported(path):
    """Return the dotted names that a file imports, also inside functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import; name the package"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func) and node.args:
            found += [node.args[0].value] if isinstance(node.args[0], ast.Constant) else []
    return found


def libraries_of(path):
    return {name.partition(".")[0] for name in imported(path)}


def own_files(path):
    """Return the files of kdops that a file imports."""
    found = set()
    for name in imported(path):
        if name.split(".")[0] == "kdops":
            # The longest part that is a module; what is left is a name in it.
            while name not in MODULES and "." in name:
                name = name.rpartition(".")[0]
            found |= {MODULES[name]} if name in MODULES else set()
    return found


def room_of(file):
    return file.split("/")[0]


def level_of(file):
    found = [level for level, rooms in enumerate(ROOMS) if room_of(file) in rooms]
    assert found, f"kdops/{file}.py is in no room yet: place its folder in ROOMS in tests/test_imports.py"
    return found[0]


def test_imports_go_down_only():
    wrong = [
        f"kdops/{file}.py may not import kdops/{other}.py: that room is not below its own"
        for file, path in FILES.items()
        for other in sorted(own_files(path))
        if room_of(other) != room_of(file) and level_of(other) >= level_of(file)
    ]
    assert not wrong


def test_no_import_runs_in_a_circle():
    TopologicalSorter({file: own_files(path) - {file} for file, path in FILES.items()}).prepare()


def test_libraries_are_known_to_few_rooms():
    wrong = [
        f"kdops/{file}.py may not import {library}"
        for file, path in FILES.items()
        for library in sorted(libraries_of(path))
        # The library does not know the pipelines.
        if library == "pipelines" or room_of(file) not in MAY_IMPORT.get(library, {room_of(file)})
    ]
    assert not wrong


def test_pipelines_see_neither_mlflow_nor_tensors():
    heavy = {"mlflow", "torch", "numpy", "pandas"}
    assert not {file: found for file, path in PIPELINES.items() if (found := libraries_of(path) & heavy)}


def test_what_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [
        *project["dependencies"],
        *(r for extra in project["optional-dependencies"].values() for r in extra),
    ]
    declared = {re.match(r"[\w-]+", requirement)[0].lower() for requirement in requirements}
    known = sys.stdlib_module_names | {"kdops", "pipelines"} | BROUGHT_BY_MLFLOW
    undeclared = {
        path: missing
        for path in (*FILES.values(), *PIPELINES.values())
        if (missing := {DISTRIBUTIONS.get(name, name) for name in libraries_of(path) - known} - declared)
    }
    assert not undeclared, "not among the dependencies of pyproject.toml"


def bound_in(path):
    """Return the names that a file binds: imports, functions, classes, variables and attributes."""
    found = {name.rpartition(".")[2] for name in imported(path)}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return found


def test_what_docstrings_refer_to_is_there():
    bound = {file: bound_in(path) for file, path in FILES.items()}
    anywhere, folders = set().union(*bound.values()), {room_of(file) for file in FILES}
    missing = []
    for file, path in FILES.items():
        text, others = path.read_text(encoding="utf-8"), libraries_of(path) | sys.stdlib_module_names
        named = re.findall(r":(mod|func|class|data|meth|attr|exc):`~?([\w.]+)`", text)
        # The names of tags are kdops.WORD; those of modules and what is in them have a folder.
        named += [("", name) for name in re.findall(r"``(kdops\.\w+\.[\w.]+)``", text) if name.split(".")[1] in folders]
        for kind, name in named:
            home, parts = file, name.split(".")
            if parts[0] == "kdops":
                module = name
                while module not in MODULES and "." in module:
                    module = module.rpartition(".")[0]
                home, parts = MODULES.get(module, ""), parts[len(module.split(".")) :]
            elif parts[0] in others - {"kdops"}:
                continue
            # A member may be that of a class above, in another file.
            own = anywhere if kind in ("meth", "attr") else bound.get(home, set())
            if not home or not own.issuperset(parts[:1]) or not anywhere.issuperset(parts):
                missing.append(f"kdops/{file}.py: {name}")
    assert not missing
