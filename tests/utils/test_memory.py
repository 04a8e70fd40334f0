"""Memory is kept from step to step while a training lasts, and given back afterwards."""

import ctypes
import subprocess
import sys

import pytest

from kdops.utils import memory as allocation

HAS_GLIBC = sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "mallopt")

SCRIPT = """
import psutil, sys, torch
from kdops.utils.memory import malloc_keeps_pages

own = psutil.Process()

def faults():
    # Pages that the system had to clear for this process.
    with open("/proc/self/stat") as file:
        return int(file.read().rpartition(")")[2].split()[7])

def steps(count):
    before = faults()
    for _ in range(count):
        torch.ones(25_000_000)
    return faults() - before

torch.ones(10)
start = own.memory_info().rss
with malloc_keeps_pages():
    # glibc needs some before it finds one block again and again.
    steps(30)
    kept = steps(10)
    within = own.memory_info().rss - start
after = own.memory_info().rss - start
print(kept, steps(10), within, after)
"""


@pytest.mark.skipif(not HAS_GLIBC, reason="only glibc has the switch")
def test_memory_is_kept_within_and_given_back_after():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    kept, plain, within, after = map(int, done.stdout.split())
    # Outside each block of 100 MB is cleared anew by the system.
    assert kept < plain / 10
    assert within > 90e6
    assert after < 50e6


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_nothing_changes(monkeypatch, platform):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(allocation, "_set", lambda *given: pytest.fail("it was changed"))
    with allocation.malloc_keeps_pages():
        pass


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_the_user_has_set_holds(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(allocation, "_set", lambda *given: pytest.fail("it was changed"))
    with allocation.malloc_keeps_pages():
        pass


@pytest.mark.skipif(not HAS_GLIBC, reason="only glibc has the switch")
def test_the_settings_come_back_after_a_failure(monkeypatch):
    told = []
    monkeypatch.setattr(allocation, "_set", lambda library, options: told.append(options))
    with pytest.raises(ValueError, match="no"), allocation.malloc_keeps_pages():
        raise ValueError("no")
    assert told == [allocation.KEPT, allocation.AFTERWARDS]
