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

__all__ = ["ProcessId"]

SHIFT = 60
"""Seconds by which the time of one boot may seem to move, where there is nothing better to distinguish boots by."""

OUTSIDE = "pid:[4026531836]"
"""How Linux calls the process ids that are not those of a container: the number is fixed in its source."""


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


@cache
def _of_pid(pid: int) -> ProcessId:
    # Only where it is asked for: it would be a tenth of the time of ``kdops --help``.
    import psutil

    return ProcessId(_host(), _boot(), pid, _start(psutil.Process(pid)))


def _host() -> str:
    """Name the host so that two machines, or two containers of one image, differ even where their host names do not."""
    identity = _read("/etc/machine-id")
    try:
        ids = os.readlink("/proc/self/ns/pid")
    except OSError:
        ids = OUTSIDE
    if ids != OUTSIDE:
        # Images carry the machine's name of whoever made them; the kernel's boot and the container's ids are its own.
        identity = _read("/proc/sys/kernel/random/boot_id") + ids
    return f"{platform.node()}+{hashlib.sha256(identity.encode()).hexdigest()[:8]}" if identity else platform.node()


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
