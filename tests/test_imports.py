"""Imports run one way, and each heavy library is known to few modules."""

import ast
import re
import sys
import tomllib
from fnmatch import fnmatchcase
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "kdops"

# From the bottom up: a module may import its own layer and those above it in this list, never those below.
LAYERS = (
    (
        "__init__",
        "errors",
        "architectures",
        "space",
        "recipes",
        "origin",
        "parameters",
        "addresses",
        "checks",
        "search_settings",
        "chain_settings",
        "config",
        "environment",
        "naming",
        "document",
        "escaping",
        "stored_answer",
        "process",
        "progress",
        "randomness",
        "imported",
        "source_text",
        "device",
        "threads",
        "allocation",
        "collection",
        "precision",
        "replay",
        "schedule",
        "paging",
    ),
    (
        "cache",
        "csv_lines",
        "data",
        "digits",
        "download",
        "encoding",
        "folders",
        "functions",
        "gtsrb",
        "holdout",
        "own",
        "picture_file",
        "pictures",
        "splits",
        "rows",
        "table_file",
        "tables",
        "torchvision_sets",
    ),
    (
        "mapped",
        "models",
        "torchvision_models",
        "function_models",
        "networks",
        "facts",
        "losses",
        "mixture",
        "statistics",
        "proportions",
        "claims",
        "ensembles",
        "temperature_effect",
        "*_verdict",
        "verdicts",
        "finding",
        "findings",
    ),
    (
        "*fleet",
        "rated_adamw",
        "train*",
        "checkpoint",
        "evaluation",
        "voting",
        "served_model",
        "fingerprint",
        "plan",
        "records",
        "units",
        "bench",
    ),
    (
        "tracking",
        "doubles",
        "lookup",
        "stale",
        "heartbeat",
        "turns",
        "ownrun",
        "registry",
        "card",
        "store",
        "packaging",
        "program_file",
        "experiment",
        "provider",
        "samplers",
        "search_storage",
        "ledger",
        "search_figures",
        "trial_runs",
        "candidates",
        "members",
        "foreign",
        "ensemble_package",
        "table_package",
        "clashes",
        "program",
        "faults",
        "schema",
        "fetching",
        "opened",
        "stored",
        "catalogue",
        "loaded",
        "exporting",
        "examples",
        "promotion",
        "artifacts",
        "garbage*",
    ),
    (
        "figures",
        "results",
        "closing",
        "failing",
        "answers",
        "chains",
        "ensembling",
        "described",
        "drawing",
        "searching",
        "source",
        "study",
        "trials",
        "voters",
    ),
    ("lineage", "listing", "compare", "report", "report_*", "pareto", "pareto_figure"),
    ("cli", "launch", "browse", "shipping", "care"),
)
# Who may import a library, wherever in the file the import stands.
ALLOWED = {
    "mlflow": {
        "tracking",
        "doubles",
        "registry",
        "store",
        "packaging",
        "experiment",
        "provider",
        "lookup",
        "stale",
        "heartbeat",
        "launch",
        "ownrun",
        "candidates",
        "members",
        "foreign",
        "ensemble_package",
        "table_package",
        "clashes",
        "program",
        "served_model",
        "opened",
        "stored",
        "catalogue",
        "drawing",
        "source",
        "trial_runs",
        "loaded",
        "faults",
        "fetching",
        "promotion",
        "artifacts",
        "garbage",
        "garbage_removal",
    },
    "onnx": {"exporting"},
    "onnxruntime": {"exporting"},
    "typer": {"cli", "browse", "shipping", "care"},
    "optuna": {"ledger", "samplers", "search_figures", "search_storage"},
}
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow"}
BROUGHT_BY_MLFLOW = {"alembic", "sqlalchemy", "yaml"}

MODULES = {path.stem: path for path in sorted(PACKAGE.glob("*.py"))}
PIPELINES = {path.stem: path for path in sorted((ROOT / "pipelines").glob("*.py"))}


@cache
def imported(path):
    """Give the dotted names that a file imports, also inside functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import; name the package"
            found += [f"kdops.{alias.name}" for alias in node.names] if node.module == "kdops" else [node.module]
    return found


def own_modules(path):
    """Give the modules of kdops that a file imports."""
    names = (re.fullmatch(r"kdops\.(\w+)(\..*)?", name) for name in imported(path))
    return {match[1] for match in names if match and match[1] in MODULES}


def layer_of(module):
    found = [n for n, layer in enumerate(LAYERS) if any(fnmatchcase(module, name) for name in layer)]
    assert found, f"kdops/{module}.py has no layer yet: place it in LAYERS in tests/test_imports.py"
    return found[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    layer = layer_of(module)
    for other in own_modules(MODULES[module]):
        assert layer_of(other) <= layer, f"kdops/{module}.py may not import kdops/{other}.py, a layer above it"


def test_no_import_runs_in_a_circle():
    TopologicalSorter({module: own_modules(path) for module, path in MODULES.items()}).prepare()


@pytest.mark.parametrize("module", MODULES)
def test_libraries_are_known_to_few(module):
    libraries = {name.partition(".")[0] for name in imported(MODULES[module])}
    for library, allowed in ALLOWED.items():
        assert library not in libraries or module in allowed, f"kdops/{module}.py may not import {library}"
    assert "pipelines" not in libraries, "the library does not know the pipelines"


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_pipelines_see_neither_mlflow_nor_tensors(pipeline):
    libraries = {name.partition(".")[0] for name in imported(PIPELINES[pipeline])}
    assert not libraries & {"mlflow", "torch", "numpy", "pandas"}


@pytest.mark.parametrize("path", [*MODULES.values(), *PIPELINES.values()], ids=lambda p: f"{p.parent.name}.{p.stem}")
def test_what_is_imported_is_declared(path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [
        *project["dependencies"],
        *(r for extra in project["optional-dependencies"].values() for r in extra),
    ]
    declared = {re.match(r"[\w-]+", requirement)[0].lower() for requirement in requirements}
    libraries = {name.partition(".")[0] for name in imported(path)} - sys.stdlib_module_names
    needed = {DISTRIBUTIONS.get(name, name) for name in libraries - {"kdops", "pipelines"} - BROUGHT_BY_MLFLOW}
    assert needed <= declared, f"not among the dependencies of pyproject.toml: {sorted(needed - declared)}"
