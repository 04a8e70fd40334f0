"""Ids of processes that stay unique after they end: by host, boot, process id and start time."""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

LAUNCHER = "KDOPS_LAUNCHER"
"""The variable by which a study knows the process that launched it, whatever shells lie between them."""

SHIFT = 60
"""Seconds by which the time of one boot may seem to move, where there is nothing better to distinguish boots by."""

OUTSIDE = "pid:[4026531836]"
"""How Linux calls the process ids that are not those of a container: the number is fixed in its source."""

MEMORY_BYTE = "128"
"""The byte of a SQLite database's shared memory that is locked while it is open (UNIX_SHM_DMS in os_unix.c)."""


@dataclass(frozen=True)
class ProcessId:
    """A process of one boot of one host.

    Attributes:
        host: the host's name and what distinguishes it from others of that name. A container with its own process ids
            is a host by itself.
        boot: a number that no other boot of the host has.
        pid: the process id.
        start: when the process started, in hundredths of a second since the boot: no clock that is set moves it.
    """

    host: str
    boot: int
    pid: int
    start: int

    @classmethod
    def own(cls) -> ProcessId:
        """Return the id of this process; a forked process has one of its own."""
        return _of_pid(os.getpid())

    @classmethod
    def parse(cls, text: str) -> ProcessId | None:
        """Read an id as text; None where it is none."""
        host, *numbers = text.rsplit("/", 3)
        try:
            return cls(host, *(int(number) for number in numbers))
        except (TypeError, ValueError):
            return None

    def __str__(self) -> str:
        return f"{self.host}/{self.boot}/{self.pid}/{self.start}"

    def shares_host(self, text: str) -> bool:
        """Return whether a process is one of this host, where it is known whether it still runs."""
        other = ProcessId.parse(text)
        return other is not None and other.host == self.host

    def is_dead(self, text: str) -> bool:
        """Return whether a process has surely ended; of those of other hosts nothing is known."""
        other = ProcessId.parse(text)
        if other is None or other.host != self.host:
            return False
        if abs(other.boot - self.boot) > SHIFT:
            return True
        import psutil

        try:
            process = psutil.Process(other.pid)
            # One that was killed stays listed as a zombie where nobody waits for it, as in a bare container.
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
            start = _start(process)
        except psutil.NoSuchProcess:
            # Where processes of other users are hidden only their ids can be asked for.
            return not psutil.pid_exists(other.pid)
        except psutil.AccessDenied:
            return False
        return abs(start - other.start) > 100


def may_be_open(database: Path, since: float) -> bool:
    """Return whether another process may have a SQLite database with a log open, of whatever user.

    Each process that has it open holds a lock on a byte of its shared memory. Only Linux lists locks, and only outside
    of containers, which do not see those of others.

    Args:
        database: the database; this process has it open.
        since: seconds since the epoch; this process and those that started it do not count where they began later.
    """
    import psutil

    if _process_ids() != OUTSIDE:
        return True
    holders = _holders(Path(f"{database}-shm"))
    if os.getpid() not in holders:
        # This file system has other numbers for its files there, or its locks are not the system's.
        return True
    try:
        own = psutil.Process()
        ours = {process.pid for process in (own, *own.parents()) if process.create_time() > since + 1}
    except psutil.Error:
        return True
    return not holders <= ours


def _holders(memory: Path) -> set[int]:
    """Return the processes with a lock on the byte of a database's shared memory that says who has it open.

    A line ends with process, device and number of the file, first and last byte: ``812 08:01:131090 128 128``. The
    device is not compared: some file systems have several.
    """
    found, file = set(), str(memory.stat().st_ino)
    for line in _read("/proc/locks").splitlines():
        *_, pid, place, first, last = line.split()
        if place.rpartition(":")[2] == file and (first, last) == (MEMORY_BYTE, MEMORY_BYTE):
            found.add(int(pid))
    return found


@cache
def _of_pid(pid: int) -> ProcessId:
    # Only where it is asked for: it would be a tenth of the time of ``kdops --help``.
    import psutil

    return ProcessId(_host(), _boot(), pid, _start(psutil.Process(pid)))


def _host() -> str:
    """Name the host so that two machines, or two containers of one image, differ even where their host names do not."""
    identity = _read("/etc/machine-id")
    ids = _process_ids()
    if ids not in ("", OUTSIDE):
        # Images carry the machine's name of whoever made them; the kernel's boot and the container's ids are its own.
        identity = _read("/proc/sys/kernel/random/boot_id") + ids
    return f"{platform.node()}+{hashlib.sha256(identity.encode()).hexdigest()[:8]}" if identity else platform.node()


def _process_ids() -> str:
    """Return which process ids this process sees; empty where the system has one set of them."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _boot() -> int:
    """Return the boot's own number; where the system has none the time of it, which shifts a little."""
    boot_id = _read("/proc/sys/kernel/random/boot_id").replace("-", "")
    return int(boot_id[:12], 16) if boot_id else _boot_time()


def _start(process: psutil.Process) -> int:
    return round(process.create_time() * 100) - 100 * _boot_time()


def _boot_time() -> int:
    import psutil

    return round(psutil.boot_time())
