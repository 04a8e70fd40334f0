"""Names of processes: whether the one that is named is surely gone."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from kdops.utils.process import ProcessId

CODE = "from kdops.utils.process import ProcessId; import sys; print(ProcessId.own(), flush=True); sys.stdin.read()"


@pytest.fixture
def other():
    """Another process and the name that it gives itself."""
    pipe = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", CODE], **pipe) as process:
        yield process, process.stdout.readline().strip()
        process.kill()


def test_own_name_reads_back():
    own = ProcessId.own()
    assert own.pid == os.getpid()
    assert ProcessId.parse(str(own)) == own
    assert not own.is_dead(str(own))


def test_a_forked_process_has_an_id_of_its_own():
    parent = ProcessId.own()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, str(ProcessId.own()).encode())
        os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as told:
        own = ProcessId.parse(told.read())
    os.waitpid(child, 0)
    assert (own.pid, own.host, own.boot) == (child, parent.host, parent.boot)
    assert ProcessId.own() == parent
    assert parent.is_dead(str(own))


@pytest.mark.parametrize("text", ["", "nonsense", "host/1/2", "host/1/2/x", "host/1//3", "1.5/2/3/4.5"])
def test_what_is_no_name_is_not_gone(text):
    assert ProcessId.parse(text) is None
    assert not ProcessId.own().is_dead(text)


def test_a_host_may_have_slashes():
    name = ProcessId("a/b", 1, 2, 3)
    assert ProcessId.parse(str(name)) == name


def test_a_live_process_is_not_gone(other):
    process, name = other
    assert ProcessId.parse(name).pid == process.pid
    assert not ProcessId.own().is_dead(name)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot be stopped there")
def test_a_process_that_is_stopped_is_not_gone(other):
    process, name = other
    process.send_signal(signal.SIGSTOP)
    deadline = time.monotonic() + 60
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED and time.monotonic() < deadline:
        time.sleep(0.01)
    assert psutil.Process(process.pid).status() == psutil.STATUS_STOPPED
    assert not ProcessId.own().is_dead(name)


def test_a_process_that_ended_is_gone(other):
    process, name = other
    process.communicate("")
    assert ProcessId.own().is_dead(name)


def test_a_killed_process_that_nobody_waited_for_is_gone(other):
    process, name = other
    process.kill()
    _wait_for_zombie(process.pid)
    assert ProcessId.own().is_dead(name)


def test_another_process_with_the_same_id_does_not_count(other):
    named = ProcessId.parse(other[1])
    earlier = replace(named, start=named.start - 1000)
    assert ProcessId.own().is_dead(str(earlier))


def test_processes_of_an_earlier_boot_are_gone(other):
    named = ProcessId.parse(other[1])
    assert ProcessId.own().is_dead(str(replace(named, boot=named.boot - 3600)))


@pytest.mark.parametrize("seconds", [-30, 30, 36_000])
def test_a_clock_that_was_set_kills_nobody(other, seconds, monkeypatch):
    # Linux counts both from the clock: setting it, or a machine that slept, moves boot and start alike.
    boot, created = psutil.boot_time, psutil.Process.create_time
    monkeypatch.setattr(psutil, "boot_time", lambda: boot() + seconds)
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: created(process) + seconds)
    assert not ProcessId.own().is_dead(other[1])


def test_a_process_that_is_hidden_from_us_is_not_gone(other, monkeypatch):
    # As where /proc is mounted with hidepid: of another user's process there is nothing but that its id is taken.
    def hidden(pid):
        raise psutil.NoSuchProcess(pid)

    monkeypatch.setattr(psutil, "Process", hidden)
    process, name = other
    assert not ProcessId.own().is_dead(name)
    process.communicate("")
    process.wait()
    assert ProcessId.own().is_dead(name)


def test_a_process_that_may_not_be_looked_at_is_not_gone(other, monkeypatch):
    def refused(process):
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "status", refused)
    assert not ProcessId.own().is_dead(other[1])


def test_of_another_host_nothing_is_known(other):
    process, name = other
    process.communicate("")
    assert not ProcessId.own().is_dead(str(replace(ProcessId.parse(name), host="another-host")))


def test_processes_of_one_host_know_each_other(other):
    assert ProcessId.own().shares_host(other[1])
    assert not ProcessId.own().shares_host(str(replace(ProcessId.parse(other[1]), host="another-host")))
    assert not ProcessId.own().shares_host("nonsense")


def test_a_container_with_process_ids_of_its_own_is_another_host(other):
    # Of its process 1 nothing can be told here, whatever process 1 of this host does.
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", CODE]
    try:
        done = subprocess.run(command, input="", capture_output=True, text=True, timeout=200)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if done.returncode:
        pytest.skip(f"no process ids of one's own can be had here: {done.stderr.strip()}")
    inside = done.stdout.strip()
    assert ProcessId.parse(inside).host.startswith(os.uname().nodename)
    assert not ProcessId.own().shares_host(inside)
    assert not ProcessId.own().is_dead(inside)
    assert ProcessId.own().is_dead(str(replace(ProcessId.parse(inside), host=ProcessId.own().host)))


def _wait_for_zombie(pid):
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        with open(f"/proc/{pid}/stat") as stat:
            if stat.read().rpartition(")")[2].split()[0] == "Z":
                return
        time.sleep(0.02)
    raise AssertionError("waited too long")
