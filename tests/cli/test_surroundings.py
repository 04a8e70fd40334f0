"""What surrounds a command may be odd: a folder that is gone, no home, a password in an address. One line says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from kdops.cli.app import main
from kdops.cli.launch import absolute_store
from kdops.store.database import ensure_experiment
from kdops.store.provider import KdopsExperimentProvider

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "import sys; from kdops.cli.app import main; sys.exit(main(sys.argv[1:]))"
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "KDOPS_", "XDG_"))}


def called(folder, *command):
    """Run a command in a folder, with nothing of the caller's settings."""
    environment = {**CLEAN, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250)


@pytest.mark.parametrize(
    "arguments", [["runs"], ["teacher"], ["ui"], ["gc"], ["search", "--dry-run", "true"]], ids=lambda one: one[0]
)
def test_a_working_folder_that_was_deleted_is_one_line(arguments, tmp_path):
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    done = called(tmp_path, "bash", "-c", script, "bash", sys.executable, "-c", COMMAND, *arguments)
    assert done.returncode == 1, done.stderr
    assert "the working folder was deleted" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_backend_of_figures_that_is_not_installed_hinders_no_command(monkeypatch, capsys):
    monkeypatch.setenv("MPLBACKEND", "module://gone.backend_inline")
    assert main(["papers", "nobody"]) == 2
    assert os.environ["MPLBACKEND"] == "agg"


@pytest.mark.parametrize(
    ("arguments", "is_set"),
    [
        (["/env/bin/mlflow", "run", "."], True),
        (["/env/lib/mlflow/__main__.py", "run", "."], True),
        (["mlflow.exe", "run", "."], True),
        (["mlflow", "ui"], False),
        (["/env/bin/streamlit", "run", "app.py"], False),
        ([""], False),
    ],
)
def test_a_project_that_is_run_by_mlflow_needs_no_installed_kdops(arguments, is_set, monkeypatch):
    monkeypatch.chdir(ROOT)
    # So that it is taken away again.
    monkeypatch.setenv("UV_NO_INSTALL_PROJECT", "")
    monkeypatch.delenv("UV_NO_INSTALL_PROJECT")
    monkeypatch.setattr(sys, "argv", arguments)
    assert KdopsExperimentProvider().in_context()
    assert os.environ.get("UV_NO_INSTALL_PROJECT") == ("1" if is_set else None)


@pytest.mark.parametrize("arguments", [["runs"], ["teacher", "--dry-run", "true"], ["ui"]], ids=lambda one: one[0])
def test_a_working_folder_whose_name_is_not_utf8_is_one_line(arguments, tmp_path):
    folder = os.fsencode(tmp_path) + b"/a\xffb"
    os.mkdir(folder)
    done = called(folder, sys.executable, "-c", COMMAND, *arguments)
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("kdops: the path of the working folder is not UTF-8")
    assert len(done.stderr.splitlines()) == 1


def test_a_store_lies_in_its_folder_alone_whatever_that_is_called(monkeypatch, tmp_path):
    """MLflow makes the folder that an address names, undecoded: an escaped one would be a second folder."""
    name = "blank quote' $HOME #hash + & ü"
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", absolute_store("sqlite:///mlflow.db", folder))
    monkeypatch.chdir(folder)
    experiment = MlflowClient().get_experiment(ensure_experiment("kdops"))
    assert Path(experiment.artifact_location) == folder / "mlruns" / experiment.experiment_id
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["per%41cent", "q?mark", "both'\"quotes"])
def test_a_folder_whose_name_mlflow_would_change_is_refused_in_one_line(name, monkeypatch, tmp_path, capsys):
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert main(["teacher"]) == 1
    assert "use another folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_without_a_home_the_line_says_what_to_name(monkeypatch, tmp_path, capsys):
    def no_home(*_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("KDOPS_DATA_ROOT", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(Path, "home", no_home)
    assert main(["teacher", "--dataset", "gtsrb", "--dry-run", "true"]) == 1
    assert "XDG_CACHE_HOME" in capsys.readouterr().err


@pytest.mark.parametrize("dataset", ["imagefolder:~nobody-at-all/images", "csv:~nobody-at-all/table.csv"])
def test_a_home_of_nobody_is_a_folder_that_is_not_there(dataset, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    given = ["--label", "x"] if dataset.startswith("csv") else []
    assert main(["teacher", "--dataset", dataset, *given, "--dry-run", "true"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_the_page_gets_the_address_of_the_store_by_the_environment(monkeypatch, tmp_path):
    """Everybody on the machine may read the arguments of a process, and an address may hold a password."""
    started = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:hunter22@host/runs")
    # There is no such server, which would be said first.
    monkeypatch.setattr("kdops.store.database.ensure_store", lambda uri: None)
    monkeypatch.setattr("kdops.store.database.ensure_experiment", lambda name: "1")
    monkeypatch.setattr(os, "execv", lambda program, command: started.append(command))
    main(["ui"])
    assert not [part for part in started[0] if "hunter22" in part]
    assert os.environ["MLFLOW_BACKEND_STORE_URI"] == "postgresql://me:hunter22@host/runs"
