"""The files around the code say the same as the code: MLproject, conda.yaml, pyproject.toml, constraints.txt."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
import yaml
from packaging.requirements import Requirement

import kdops
from kdops.cli.app import app
from kdops.config.parameters import ENTRY_POINTS, MAIN

ROOT = Path(__file__).resolve().parent.parent
PROJECT = yaml.safe_load((ROOT / "MLproject").read_text(encoding="utf-8"))
CONDA = yaml.safe_load((ROOT / "conda.yaml").read_text(encoding="utf-8"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINS = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line]
DEPENDENCIES = {r.name: r for r in map(Requirement, PYPROJECT["project"]["dependencies"])}


def dashed(name):
    return "--" + name.replace("_", "-")


def write_project(*arguments, root=ROOT):
    command = [sys.executable, root / "tools" / "write_project.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


def test_generated_files_are_up_to_date():
    done = write_project("--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_stale_files_are_named_and_written_anew(tmp_path):
    for name in ("tools", "kdops/config", "kdops/utils", "docs", "deploy/kubernetes"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("kdops/__init__.py", "kdops/errors.py", "MLproject"):
        shutil.copy(ROOT / name, tmp_path / name)
    table = tmp_path / "kdops" / "config" / "parameters.py"
    table.write_text(table.read_text().replace('"margin", "0.02"', '"margin", "0.03"'))
    (tmp_path / "docs" / "parameters.md").unlink()
    done = write_project("--check", root=tmp_path)
    names = ["MLproject", "deploy/kubernetes/MLproject", "docs/parameters.md"]
    told = "".join(f"{name} is stale; run tools/write_project.py\n" for name in names)
    assert (done.returncode, done.stdout, done.stderr) == (1, told, "")
    assert write_project(root=tmp_path).returncode == 0
    assert write_project("--check", root=tmp_path).returncode == 0
    project = yaml.safe_load((tmp_path / "MLproject").read_text())
    assert {point["parameters"]["margin"]["default"] for point in project["entry_points"].values()} == {"0.03", "auto"}


def test_project_names_its_environment():
    assert (PROJECT["name"], PROJECT["conda_env"]) == ("kdops", "conda.yaml")
    assert set(PROJECT["entry_points"]) == {*ENTRY_POINTS, "main"}


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_entry_point_has_the_parameters_of_the_table(name):
    declared = PROJECT["entry_points"][name]["parameters"]
    expected = {p.name: {"type": "string", "default": p.default} for p in ENTRY_POINTS[name].parameters()}
    assert declared == expected
    assert list(declared) == list(expected)


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_command_passes_every_parameter_on(name):
    module, *passed = re.split(r"\s+(?=--)", PROJECT["entry_points"][name]["command"].strip())
    assert module == f"python -m pipelines.{name}"
    assert passed == [f"{dashed(p.name)} {{{p.name}}}" for p in ENTRY_POINTS[name].parameters()]


def test_main_is_transitivity():
    assert PROJECT["entry_points"]["main"] == PROJECT["entry_points"][MAIN] == PROJECT["entry_points"]["transitivity"]
    main, same = (typer.main.get_command(app).commands[name] for name in ("main", MAIN))
    assert [(p.name, p.default) for p in main.params] == [(p.name, p.default) for p in same.params]


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_command_line_has_the_options_of_the_table(name):
    command = typer.main.get_command(app).commands[name]
    options = {option.name: (option.opts, option.default) for option in command.params}
    assert options == {p.name: ([dashed(p.name)], p.default) for p in ENTRY_POINTS[name].parameters()}


def test_conda_file_is_what_uv_understands_and_agrees():
    assert set(CONDA) == {"name", "dependencies"}
    python, pip, packages = CONDA["dependencies"]
    assert (python, pip, set(packages)) == ("python=3.11", "pip", {"pip"})
    assert packages["pip"] == PYPROJECT["project"]["dependencies"]


def test_constraints_pin_every_dependency_within_its_bounds():
    pins = dict(line.split("==") for line in PINS)
    assert "kdops" not in pins
    for name, requirement in DEPENDENCIES.items():
        assert name in pins, f"constraints.txt does not pin {name}"
        assert requirement.specifier.contains(pins[name]), f"{requirement} against {pins[name]}"


def test_constraints_are_plain_sorted_pins():
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[A-Za-z0-9.!]+", line) for line in PINS)
    names = [line.partition("==")[0] for line in PINS]
    assert names == sorted(set(names))


@pytest.mark.parametrize("name", ["MLproject", "conda.yaml", "pyproject.toml", "constraints.txt"])
def test_no_address_and_no_absolute_path(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"https?:|://|(^|[\s\"'=@])/\w", text)


def test_version_is_one():
    assert PYPROJECT["project"]["version"] == kdops.__version__


def test_uv_resolves_the_tested_versions_of_what_is_named():
    constraints = PYPROJECT["tool"]["uv"]["constraint-dependencies"]
    groups = PYPROJECT["dependency-groups"]
    extras = PYPROJECT["project"]["optional-dependencies"].values()
    more = [*groups["dev"], *groups["docs"], *(line for extra in extras for line in extra)]
    named = {*DEPENDENCIES, *(Requirement(line).name for line in more)}
    assert {Requirement(line).name for line in constraints} == named
    assert set(constraints) <= set(PINS)


def test_what_mutation_runs_on_is_there():
    """A file that was moved would leave the mutation run without a word; its group is installed by name alone."""
    settings = PYPROJECT["tool"]["mutmut"]
    for pattern in settings["only_mutate"]:
        assert list(ROOT.glob(pattern)), f"{pattern} names no file"
    for path in settings["pytest_add_cli_args_test_selection"]:
        assert (ROOT / path).exists(), f"{path} is not there"
    assert "mutation" not in PYPROJECT["tool"]["uv"].get("default-groups", ["dev"])
