"""The launcher and the store, with real MLflow runs of a project whose pipeline does almost nothing."""

import ntpath
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path, PureWindowsPath

import pytest
from mlflow import MlflowClient
from sqlalchemy.engine import make_url

from kdops.cli.launch import absolute_store, fix_environment
from kdops.errors import UsageError
from kdops.store.experiment import is_project
from kdops.tracking.stale_runs import is_stale

ROOT = Path(__file__).resolve().parents[2]

PIPELINE = """
import os
import time
from pathlib import Path

import mlflow

from kdops.cli.app import pipeline_main


def check(settings, data):
    pass


def main(settings, data=None):
    if settings.dry_run:
        print("nothing was run")
        return
    with mlflow.start_run():
        mlflow.log_param("root", settings.data_root)
        mlflow.log_text("kept", "kept.txt")
        Path(os.environ["PID_FILE"]).write_text(str(os.getpid()))
        if settings.seed == 1:
            raise ValueError("a defect")
        if settings.seed == 2:
            time.sleep(120)


if __name__ == "__main__":
    pipeline_main("teacher", main)
"""


@pytest.fixture
def project(tmp_path):
    """A copy of the project, with a pipeline of its own."""
    folder = tmp_path / "project"
    # With what is compiled: it names the times of the sources, which are copied too.
    shutil.copytree(ROOT / "kdops", folder / "kdops")
    for name in ("MLproject", "conda.yaml"):
        shutil.copy(ROOT / name, folder)
    (folder / "pipelines").mkdir()
    (folder / "pipelines" / "__init__.py").touch()
    (folder / "pipelines" / "teacher.py").write_text(PIPELINE)
    return folder


@pytest.fixture
def environment(project, tmp_path):
    """No MLflow setting of the caller's, and the copy before any installed kdops."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "KDOPS_"))}
    here = os.path.dirname(sys.executable)
    return {
        **clean,
        "PYTHONPATH": str(project),
        "PID_FILE": str(tmp_path / "pid"),
        "PATH": f"{here}{os.pathsep}{clean['PATH']}",
    }


KDOPS = [sys.executable, "-c", "import sys; from kdops.cli.app import main; sys.exit(main())"]
MLFLOW_RUN = [sys.executable, "-m", "mlflow", "run", ".", "-e", "teacher", "--env-manager", "local"]


def run(command, folder, environment):
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=200)


def runs_of(database):
    """Return (experiment, status, root, artifact folder) of every run in a store."""
    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    experiments = {e.experiment_id: e.name for e in client.search_experiments()}
    return [
        (experiments[r.info.experiment_id], r.info.status, r.data.params.get("root"), r.info.artifact_uri)
        for r in client.search_runs(list(experiments))
    ]


def test_kdops_runs_from_any_folder(project, environment, tmp_path):
    work = tmp_path / "work place"
    (work / "data").mkdir(parents=True)
    # Another python comes first on the path, and the data folder is relative.
    environment["PATH"] = os.defpath
    environment["TMPDIR"] = str(tmp_path / "temporary")
    (tmp_path / "temporary").mkdir()
    done = run([*KDOPS, "teacher", "--data-root", "data"], work, environment)
    assert done.returncode == 0, done.stderr
    ((experiment, status, root, artifacts),) = runs_of(work / "mlflow.db")
    assert (experiment, status) == ("kdops", "FINISHED")
    assert root in (str(work / "data"), f"'{work / 'data'}'")
    assert Path(artifacts, "kept.txt").exists()
    assert Path(artifacts).is_relative_to(work / "mlruns")
    assert not list(project.glob("ml*.db*")) + list(project.glob("mlruns"))
    assert not list((tmp_path / "temporary").iterdir())


def test_kdops_reports_a_failing_run_with_exit_code_one(environment, tmp_path):
    environment["MLFLOW_TRACKING_URI"] = "sqlite:///sub/own.db"
    environment["MLFLOW_EXPERIMENT_NAME"] = "mine"
    done = run([*KDOPS, "teacher", "--seed", "1"], tmp_path, environment)
    assert done.returncode == 1
    assert "ValueError: a defect" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("kdops: teacher: Run (ID '")
    assert [found[:2] for found in runs_of(tmp_path / "sub" / "own.db")] == [("mine", "FAILED")]


STUCK = """
import os, signal
import mlflow
from kdops.cli.app import main
mlflow.projects.run = lambda **named: os.kill(os.getpid(), signal.SIGKILL)
main(["teacher"])
"""


def test_a_run_names_its_launcher_before_there_is_a_study(environment, tmp_path):
    """It is killed before the study could name itself; the next study knows at once that its run is dead."""
    killed = run([sys.executable, "-c", STUCK], tmp_path, environment)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (left,) = client.search_runs([client.get_experiment_by_name("kdops").experiment_id])
    assert left.info.status == "RUNNING"
    assert left.data.tags["mlflow.project.entryPoint"] == "teacher"
    assert left.data.params["dataset"] == "digits"
    assert is_stale(client, left, {})


def test_dry_run_makes_no_store(environment, tmp_path):
    done = run([*KDOPS, "teacher", "--dry-run", "true"], tmp_path, environment)
    assert (done.returncode, done.stdout) == (0, "nothing was run\n"), done.stderr
    assert not list(tmp_path.glob("mlflow*"))


@pytest.mark.parametrize(
    ("command", "number"),
    [
        pytest.param([*KDOPS, "teacher", "--seed", "2"], signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param([*KDOPS, "teacher", "--seed", "2"], signal.SIGINT, marks=pytest.mark.slow),
        pytest.param([*KDOPS, "teacher", "--seed", "2"], signal.SIGHUP, marks=pytest.mark.slow),
        pytest.param([*MLFLOW_RUN, "-P", "seed=2"], signal.SIGKILL, marks=pytest.mark.slow),
    ],
    ids=["kdops-term", "kdops-int", "kdops-hup", "mlflow-kill"],
)
def test_no_child_outlives_its_launcher(command, number, project, environment, tmp_path):
    # A test run in a shell's background inherits an ignored SIGINT, which is rightly kept ignored.
    with subprocess.Popen(
        command,
        cwd=project,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as launcher:
        child = _wait_for(lambda: int((tmp_path / "pid").read_text()))
        launcher.send_signal(number)
        _, err = launcher.communicate(timeout=200)
    assert launcher.returncode == (1 if number != signal.SIGKILL else -number)
    assert "interrupted" in err
    _wait_for(lambda: _is_gone(child))
    # MLflow itself calls every end a failure.
    status = "FAILED" if number == signal.SIGKILL else "KILLED"
    assert [found[:2] for found in runs_of(project / "mlflow.db")] == [("kdops", status)]


CHILD = """
import kdops.cli, os, sys, time

with open(sys.argv[1], "w") as file:
    file.write(str(os.getpid()))
time.sleep(1)  # here a study imports what it needs
from kdops.cli.signals import end_with_parent

end_with_parent(0.1)
time.sleep(600)
"""
LAUNCHED_BY = """
import os, subprocess, sys
from kdops.utils.process import LAUNCHER
from kdops.utils.process import ProcessId

shell, *command = sys.argv[1:]
if shell:
    os.environ[LAUNCHER] = str(ProcessId.own())
    command = [shell, "-c", '"$@"; exit', shell, *command]
subprocess.run(command)
"""


@pytest.mark.parametrize("shell", ["", "bash"])
def test_a_child_whose_launcher_is_killed_while_it_starts_ends(shell, tmp_path, environment):
    environment["PYTHONPATH"] = str(ROOT)
    (tmp_path / "child.py").write_text(CHILD)
    child = [sys.executable, str(tmp_path / "child.py"), str(tmp_path / "pid")]
    with subprocess.Popen([sys.executable, "-c", LAUNCHED_BY, shell, *child], env=environment) as launcher:
        child = _wait_for(lambda: int((tmp_path / "pid").read_text()))
        launcher.kill()
    _wait_for(lambda: _is_gone(child))


@pytest.mark.slow
def test_bare_mlflow_run_lands_in_the_experiment(project, environment):
    done = run([*MLFLOW_RUN, "-P", "data_root="], project, environment)
    assert done.returncode == 0, done.stderr
    client = MlflowClient(tracking_uri=f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("kdops")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert [found[:2] for found in runs_of(project / "mlflow.db")] == [("kdops", "FINISHED")]


@pytest.mark.slow
def test_mlflows_own_means_win(project, environment):
    asked = "import mlflow.tracking.fluent as f, mlflow; print(mlflow.get_experiment(f._get_experiment_id()).name)"
    ask = [sys.executable, "-c", asked]
    assert run(ask, project, environment).stdout == "kdops\n"
    assert run(ask, project, {**environment, "MLFLOW_EXPERIMENT_NAME": "mine"}).stdout == "mine\n"
    assert run(ask, project / "pipelines", environment).stdout == "Default\n"


@pytest.mark.slow
def test_processes_that_start_together_make_one_store(tmp_path, environment):
    code = (
        "import sys, mlflow; mlflow.set_tracking_uri(sys.argv[1])\n"
        "from kdops.store.database import ensure_experiment; print(ensure_experiment('together'))"
    )
    command = [sys.executable, "-c", code, f"sqlite:///{tmp_path / 'new.db'}"]
    started = [
        subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    answers = [process.communicate(timeout=200) for process in started]
    assert [process.returncode for process in started] == [0] * 4, answers
    assert len({out for out, _ in answers}) == 1


@pytest.mark.parametrize(
    ("given", "absolute"),
    [
        ("sqlite:///mlflow.db", "sqlite:////home/me too/mlflow.db"),
        ("sqlite:///a/../b.db?timeout=5", "sqlite:////home/me too/b.db?timeout=5"),
        ("sqlite+pysqlite:///b.db", "sqlite+pysqlite:////home/me too/b.db"),
        ("sqlite:////srv/mlflow.db", "sqlite:////srv/mlflow.db"),
        ("https://user:secret@host:5000/x", "https://user:secret@host:5000/x"),
        ("postgresql://host/db", "postgresql://host/db"),
        ("databricks", "databricks"),
    ],
)
def test_relative_store_becomes_absolute(given, absolute):
    assert absolute_store(given, Path("/home/me too")) == absolute


@pytest.mark.parametrize(
    ("given", "absolute"),
    [
        ("sqlite:///mlflow.db", "sqlite:///C:/Users/me too/mlflow.db"),
        ("sqlite:///runs\\a.db?timeout=5", "sqlite:///C:/Users/me too/runs/a.db?timeout=5"),
        ("sqlite:///C:\\data\\mlflow.db", "sqlite:///C:/data/mlflow.db"),
        ("sqlite:///D:/mlflow.db", "sqlite:///D:/mlflow.db"),
        ("https://host:5000", "https://host:5000"),
    ],
)
def test_a_store_on_windows_has_a_drive_and_slashes(given, absolute):
    """By ``ntpath``: these tests run on Linux."""
    assert absolute_store(given, PureWindowsPath("C:\\Users\\me too")) == absolute
    if absolute.startswith("sqlite"):
        database = make_url(absolute).database
        assert PureWindowsPath(database).is_absolute()
        assert ntpath.normpath(database) == str(PureWindowsPath(database))


@pytest.mark.parametrize(
    ("given", "absolute"),
    [
        ("mine.journal", "{folder}/mine.journal"),
        ("sqlite:///trials.db", "sqlite:///{folder}/trials.db"),
        ("postgresql://me:secret@host/db", "postgresql://me:secret@host/db"),
    ],
)
def test_the_storage_of_a_search_in_the_environment_is_that_of_the_callers_folder(monkeypatch, given, absolute):
    folder = Path.cwd()
    # A copy, since more of it is set than this.
    monkeypatch.setattr(os, "environ", {**os.environ, "KDOPS_SEARCH_STORAGE": given})
    fix_environment(folder)
    assert os.environ["KDOPS_SEARCH_STORAGE"] == absolute.format(folder=folder)


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///?x=1"])
def test_store_in_memory_is_refused(uri):
    with pytest.raises(UsageError, match="must name a file"):
        absolute_store(uri, Path("/home"))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("name: kdops\n", True),
        ("# a project\nname:  'kdops'  # its name\n", True),
        ("name: kdops2\n", False),
        ("entry_points:\n  name: kdops\n", False),
    ],
)
def test_project_is_known_by_its_name(text, answer, tmp_path):
    assert not is_project(tmp_path)
    (tmp_path / "MLproject").write_text(text)
    assert is_project(tmp_path) is answer


def _wait_for(question, seconds=200.0):
    """Ask until the answer is true; a file that is not there yet or still empty counts as no."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if answer := question():
                return answer
        except (FileNotFoundError, ValueError):
            pass
        time.sleep(0.1)
    raise AssertionError("waited too long")


def _is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A process that nobody waits for stays listed as a zombie where no init reaps it.
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" in status.read_text()
