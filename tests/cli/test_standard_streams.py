"""Output never ends a command: its reader may leave, and its encoding may lack characters."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.conftest import FAST

ROOT = Path(__file__).resolve().parents[2]
STUDY = [f"--{name}={value}" for name, value in {**FAST, "seeds": "1"}.items()]


@pytest.fixture
def environment(tmp_path):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "KDOPS_", "PYTHONIO"))}
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    return {**clean, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache"), "MLFLOW_TRACKING_URI": uri}


def code(text):
    return [sys.executable, "-c", f"import sys\nfrom kdops.cli.app import main\n{text}"]


@pytest.mark.parametrize("trained", ["small", pytest.param("empty", marks=pytest.mark.slow)])
def test_a_study_whose_output_nobody_reads_is_finished(trained, request):
    place = request.getfixturevalue({"small": "apart", "empty": "store"}[trained])
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "pipelines.students", *STUDY]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=place.folder, env=environment, stdout=writer, stderr=writer, timeout=800)
    os.close(writer)
    assert (done.returncode, place.studies()[0].info.status) == (0, "FINISHED")
    assert len(place.studies()) == (2 if trained == "small" else 1)
    assert len(place.children()) == 4


@pytest.mark.parametrize("kept", ["stdout", "stderr"])
@pytest.mark.parametrize(("arguments", "expected"), [(["--help"], 0), (["teacher", "--seed", "x"], 2)])
def test_a_reader_that_left_changes_no_exit_code(arguments, expected, kept, environment, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdout": writer, "stderr": writer, kept: subprocess.PIPE}
    done = subprocess.run(
        code(f"sys.exit(main({arguments!r}))"), cwd=tmp_path, env=environment, text=True, timeout=200, **streams
    )
    os.close(writer)
    assert done.returncode == expected
    assert "Exception ignored" not in (done.stderr or "")


FILES = "import os; print([os.readlink(f'/proc/self/fd/{file}') for file in range(3)], file=open('files', 'a'))"
OPENED = f"""
import subprocess, sys
from kdops.cli.standard_streams import lasting_output
with lasting_output():
    exec({FILES!r})
    subprocess.run([sys.executable, "-c", {FILES!r}])
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux tells where files lead")
@pytest.mark.parametrize("closed", [[1], [0, 1, 2]])
def test_streams_that_are_closed_are_an_empty_file_also_for_children(closed, environment, tmp_path):
    """Else a file that is opened later would be one of them."""
    command = [sys.executable, "-c", OPENED]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, preexec_fn=lambda: [os.close(file) for file in closed], **streams
    ) as process:
        process.communicate(timeout=200)
    assert process.returncode == 0
    own, inherited = (ast.literal_eval(line) for line in (tmp_path / "files").read_text().splitlines())
    assert [place == os.devnull for place in own] == [file in closed for file in range(3)]
    assert inherited == own


@pytest.mark.slow
def test_a_study_without_standard_output_keeps_its_store(environment, tmp_path):
    """The launcher's database was opened as one of them, and lost its locks: the study removed the log under it."""
    study = [part for option in STUDY for part in option.split("=", 1)]
    with subprocess.Popen(
        code(f"sys.exit(main(['students', *{study!r}]))"),
        cwd=tmp_path,
        env=environment,
        preexec_fn=lambda: os.close(1),
    ) as process:
        assert process.wait(800) == 0
    client = MlflowClient(environment["MLFLOW_TRACKING_URI"])
    runs = client.search_runs([client.get_experiment_by_name("kdops").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 5


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-8"])
def test_characters_that_the_output_lacks_are_escaped(encoding, environment, tmp_path):
    text = "print('T = 2 → ' + chr(0x2265) + chr(0xdcff)); sys.stderr.write(chr(0x2265))"
    command = code(f"from kdops.cli.standard_streams import lasting_output\nwith lasting_output(): {text}")
    done = subprocess.run(
        command, cwd=tmp_path, env={**environment, "PYTHONIOENCODING": encoding}, capture_output=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert b"\\udcff" in done.stdout


def test_the_streams_come_back(capsys):
    from kdops.cli.standard_streams import lasting_output

    before = sys.stdout, sys.stderr
    with lasting_output(), lasting_output():
        print("within")
    print("after")
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr().out == "within\nafter\n"
