"""Files that are there whole or not at all, and folders that go with their process."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kdops.utils.process import ProcessId

SHARED_MEMORY = "/dev/shm"
"""A folder in memory, where the system has one."""

PREFIX = "kdops-"
SLASH = "~"
"""Instead of the slashes of a process's id, in the name of a folder."""


@contextmanager
def replace_file(path: Path, suffix: str = ".tmp") -> Iterator[Path]:
    """Yield a new file beside ``path``, which takes its place once the block ends; where it fails nothing changes.

    The content is on disk before the name is: after a power failure the file is the old one or the new one.

    Args:
        path: the file that is written.
        suffix: how the name of the new file ends until then.
    """
    temporary = path.with_name(f".{path.name[:64]}.{secrets.token_hex(4)}{suffix}")
    temporary.touch()
    try:
        yield temporary
        # A writer of the block's may have put a private file in its place.
        set_usual_mode(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def set_usual_mode(path: Path) -> None:
    """Set the mode of a file to that of any new file: some libraries make theirs private."""
    probe = path.with_name(f".{secrets.token_hex(8)}.tmp")
    os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        path.chmod(probe.stat().st_mode & 0o777)
    finally:
        probe.unlink()


@contextmanager
def temporary_folder(place: str = "") -> Iterator[Path]:
    """Yield a new temporary folder, which is removed at the end.

    Its name has the id of the process, so that :func:`remove_abandoned_folders` knows it where the process is killed.

    Args:
        place: the folder that it is made in, ``SHARED_MEMORY`` or the system's folder for temporary files.
    """
    owner = str(ProcessId.own()).replace("/", SLASH)
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{owner}{SLASH}", dir=place or None) as folder:
        yield Path(folder)


def remove_abandoned_folders() -> None:
    """Remove the temporary folders of processes of this host that were killed."""
    own = ProcessId.own()
    places = (Path(tempfile.gettempdir()), Path(SHARED_MEMORY))
    for folder in (one for place in places for one in place.glob(f"{PREFIX}*{SLASH}*")):
        owner = folder.name.removeprefix(PREFIX).rpartition(SLASH)[0].replace(SLASH, "/")
        if own.is_dead(owner):
            shutil.rmtree(folder, ignore_errors=True)
