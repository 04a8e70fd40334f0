"""Signals end a study in order: the first interrupts, a second Ctrl-C waits for the end, a third stops at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from kdops.cli.signals import interruptible
from kdops.errors import KdopsError

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("again", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_leaves_the_end_its_time(first, again):
    if first != signal.SIGINT and again == signal.SIGINT:
        pytest.skip("the first Ctrl-C after another signal interrupts")
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert ends_after(first, again)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers


def test_a_third_ctrl_c_stops_at_once():
    assert not ends_after(signal.SIGINT, signal.SIGINT, signal.SIGINT)


def ends_after(first, *others):
    """Return whether what a study does at its end is done, where other signals follow the first one."""
    ended = []

    def study():
        with interruptible():
            try:
                os.kill(os.getpid(), first)
            finally:
                for number in others:
                    os.kill(os.getpid(), number)
                ended.append(True)

    with pytest.raises(KdopsError, match="interrupted"):
        study()
    return bool(ended)


class Dropping:
    """Something whose finalizer a signal arrives in; Python drops what is raised there."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_a_finalizer_interrupts_all_the_same(number):
    hook = sys.unraisablehook

    def study():
        with interruptible():
            Dropping(number)
            time.sleep(100)

    begun = time.monotonic()
    with pytest.raises(KdopsError, match="interrupted"):
        study()
    assert time.monotonic() - begun < 50
    assert sys.unraisablehook is hook


@pytest.mark.slow
def test_a_study_that_gets_ctrl_c_twice_is_killed(tmp_path):
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "KDOPS_"))}
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    environment = {
        **clean,
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": uri,
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.teacher", "--seeds", "1", "--epochs", "teacher=3000"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        _wait_for_training(uri, tmp_path, process)
        for _ in range(2):
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.1)
        _, told = process.communicate(timeout=6000)
    statuses = [run.info.status for run in _runs(uri)]
    # Python itself ends by the signal where it arrived within an import.
    assert process.returncode in (1, -signal.SIGINT), told
    assert set(statuses) == {"KILLED"}, told
    assert "Traceback" not in told


def _runs(uri):
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("kdops")
    return client.search_runs([experiment.experiment_id]) if experiment else []


def _wait_for_training(uri, folder, process):
    for _ in range(6000):
        time.sleep(0.1)
        assert process.poll() is None, process.stderr.read()
        found = _runs(uri) if (folder / "mlflow.db").exists() and not list(folder.glob("*.unfinished")) else []
        if any("kdops.heartbeat" in run.data.tags for run in found):
            time.sleep(1.5)
            return
    raise AssertionError("the study never began")


AT_THE_END = """
import atexit, time

def end():  # as libraries do that were imported before
    print("at the end", flush=True)
    time.sleep(1)

atexit.register(end)
from kdops.cli.process import configure_process
configure_process()
"""


@pytest.mark.slow
def test_ctrl_c_at_the_very_end_is_no_traceback():
    command = [sys.executable, "-c", AT_THE_END]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "at the end\n"
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=600)
    assert (process.returncode, told) == (0, "")
