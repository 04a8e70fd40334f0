"""What ``import kdops`` offers: each name resolves, importing is cheap, and type checkers see the same names."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import kdops

HEAVY = ("torch", "mlflow", "numpy", "pandas", "optuna", "typer", "matplotlib")
STUB = Path(kdops.__file__).with_suffix(".pyi")
NAMES = [name for name in kdops.__all__ if name != "__version__"]


@pytest.mark.parametrize("name", NAMES)
def test_name_resolves_and_is_documented(name):
    found = getattr(kdops, name)
    assert found.__name__ == name
    assert inspect.getdoc(found)


def test_import_is_cheap():
    code = f"import sys, kdops; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_other_names_are_refused_with_those_there_are():
    with pytest.raises(AttributeError, match=r"no attribute 'open_studio'; it has Claim, .*open_study"):
        _ = kdops.open_studio


def test_names_are_listed():
    assert dir(kdops) == sorted(kdops.__all__)


def test_type_checkers_see_the_same():
    seen = {
        alias.name: node.module
        for node in ast.parse(STUB.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == kdops._PLACES
    assert STUB.with_name("py.typed").exists()
