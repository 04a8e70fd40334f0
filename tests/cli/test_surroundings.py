"""What surrounds a command may be odd: a folder that is gone, no home, a password in an address. One line says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdops.cli.app import main

ROOT = Path(__file__).resolve().parents[2]
COMMAND = "import sys; from kdops.cli.app import main; sys.exit(main(sys.argv[1:]))"
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "KDOPS_", "XDG_"))}


@pytest.mark.parametrize(
    "arguments", [["runs"], ["teacher"], ["ui"], ["gc"], ["search", "--dry-run", "true"]], ids=lambda one: one[0]
)
def test_a_working_folder_that_was_deleted_is_one_line(arguments, tmp_path):
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, "-c", COMMAND, *arguments],
        cwd=tmp_path,
        env={**CLEAN, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1, done.stderr
    assert "the working folder was deleted" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


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
    monkeypatch.setattr("kdops.store.database.ensure_experiment", lambda name: "1")
    monkeypatch.setattr(os, "execv", lambda program, command: started.append(command))
    main(["ui"])
    assert not [part for part in started[0] if "hunter22" in part]
    assert os.environ["MLFLOW_BACKEND_STORE_URI"] == "postgresql://me:hunter22@host/runs"
