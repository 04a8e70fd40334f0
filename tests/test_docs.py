"""The pages say what the code does: links lead somewhere, examples run, commands, options and tags are named."""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from kdops.cli.app import app
from kdops.config.parameters import ENTRY_POINTS

ROOT = Path(__file__).resolve().parent.parent
DOORS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
PAGES = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "results" not in path.parts]
COMMANDS = typer.main.get_command(app).commands
FENCED = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)


def text_of(path):
    return path.read_text(encoding="utf-8")


def name_of(path):
    return str(path.relative_to(ROOT))


def anchors(path):
    headings = re.findall(r"^#+ +(.+)$", FENCED.sub("", text_of(path)), re.MULTILINE)
    return {re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


@pytest.mark.parametrize("path", [*DOORS, *PAGES], ids=name_of)
def test_links_lead_somewhere(path):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", FENCED.sub("", text_of(path))):
        assert not target.startswith("/")
        if not re.match(r"https?:", target):
            place = path.parent / target if target else path
            assert place.exists(), target
            assert not anchor or anchor in anchors(place), f"{target}#{anchor}"


@pytest.mark.parametrize("path", [*DOORS, *PAGES], ids=name_of)
def test_files_that_are_named_exist(path):
    folders = r"kdops|pipelines|tests|tools|docs|benchmarks|deploy|\.ci|\.github"
    named = re.findall(rf"`((?:{folders})/[\w./-]*)`", text_of(path))
    assert not [file for file in named if "NAME" not in file and not (ROOT / file).exists()]


def test_every_page_is_linked_from_the_first_one():
    linked = set(re.findall(r"\]\(([\w./-]+)", text_of(ROOT / "docs/index.md")))
    # Papers and decisions have a first page of their own.
    wanted = [path for path in PAGES if path.parent.name not in ("papers", "decisions") or path.stem == "index"]
    assert {str(path.relative_to(ROOT / "docs")) for path in wanted} - {"index.md"} <= linked


def test_python_examples_run(tmp_path):
    code = ""
    for name in ("README.md", "docs/reference/api.md"):
        (example,) = re.findall(r"^```python\n(.*?)^```", text_of(ROOT / name), re.MULTILINE | re.DOTALL)
        assert example.count('seeds="2"') == 1
        code += example.replace('seeds="2"', 'seeds="2", epochs="1"')  # as it stands, but in seconds
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^models:/kdops-digits-student/\d+ [\d.]+ 0\.\d+$", done.stdout, re.MULTILINE)) == 4


def test_the_two_commands_stay():
    lines = text_of(ROOT / "README.md").splitlines()
    assert "    pip install uv && uv run mlflow run . -e transitivity --env-manager local" in lines
    assert "    pip install uv && uv run pytest" in lines


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_and_their_options_are_listed(name):
    (row,) = re.findall(rf"^\| `kdops {name}\b.*$", text_of(ROOT / "docs/reference/cli.md"), re.MULTILINE)
    if name not in {*ENTRY_POINTS, "main"}:
        options = {opt for p in COMMANDS[name].params if p.param_type_name == "option" for opt in p.opts}
        assert set(re.findall(r"`(--[\w-]+)`", row)) == options - {"--help"}


def test_every_tag_is_described():
    described = set(re.findall(r"`(kdops\.\w+)", text_of(ROOT / "docs/reference/run-schema.md")))
    strings = {
        node.value
        for path in sorted((ROOT / "kdops").rglob("*.py"))
        for node in ast.walk(ast.parse(text_of(path)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    tags = {text for text in strings if re.fullmatch(r"kdops\.[a-z_]+", text)}
    rooms = {f"kdops.{path.name}" for path in (ROOT / "kdops").iterdir()}
    assert described
    assert tags - rooms <= described


@pytest.mark.parametrize("name", ["params", "metrics"])
def test_every_parameter_and_metric_of_a_run_is_described(name):
    described = set(re.findall(r"`(\w+)`", text_of(ROOT / "docs/reference/run-schema.md")))
    names = {
        value for value in vars(importlib.import_module(f"kdops.sweeps.{name}")).values() if isinstance(value, str)
    }
    assert {value for value in names if re.fullmatch(r"[a-z][a-z_0-9]*", value)} <= described


def test_the_public_names_are_on_their_page():
    shown = re.findall(r"^::: kdops\.(\w+)$", text_of(ROOT / "docs/reference/api.md"), re.MULTILINE)
    public = importlib.import_module("kdops").__all__
    assert sorted(shown) == sorted(set(public) - {"__version__"})


@pytest.mark.parametrize("name", [".ci/run", ".github/workflows/ci.yml", ".github/workflows/release.yml", "mkdocs.yml"])
def test_no_address(name):
    assert "://" not in text_of(ROOT / name)
