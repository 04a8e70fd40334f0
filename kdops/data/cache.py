"""Arrays data sets, kept on disk as memory-mapped arrays so that images are decoded once.

A *signature* of the source files (path, size, inode, time of the last change) points, through a small JSON file, to
arrays that are named by the digest of their content. Reading checks that digest over every byte, so a
damaged, truncated or half-written cache is found and made again, never used.
The folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import mmap
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
from filelock import FileLock
from numpy.typing import DTypeLike

from kdops.data.arrays import ARRAYS, VALIDATION, Arrays
from kdops.errors import KdopsError
from kdops.utils.files import replace_file

FORMAT = 2
"""Goes up when the layout of the cache, or the way that images are decoded, changes."""

SETTLED = 2_000_000_000
"""Nanoseconds after which another change of a file has another time, on any file system."""

COPIED_TIMES = {"squashfs", "erofs", "cramfs", "iso9660", "vfat", "msdos", "exfat", "ntfs", "ntfs3", "cifs", "smb3"}
"""File systems, beside those of programs (FUSE), that show as the time of the last change one that can be set."""

MOUNTS = Path("/proc/self/mountinfo")

_log = logging.getLogger(__name__)


def user_cache_folder() -> Path:
    """Return the folder for what can be made again: ``$XDG_CACHE_HOME/kdops``, else ``~/.cache/kdops``."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # By the XDG specification a relative path is ignored.
    if given.is_absolute():
        return given / "kdops"
    try:
        return Path.home() / ".cache" / "kdops"
    except RuntimeError:
        raise KdopsError("there is no home folder to keep data in; name a folder with XDG_CACHE_HOME") from None


class SourceFile(NamedTuple):
    """A file that a data set is decoded from, as it was found.

    Attributes:
        path: relative to the data set's folder.
        size: its bytes.
        inode: its number in the file system; 0 where that has none, or has no time of change that cannot be set back.
        changed: when content, name or rights were changed last, in nanoseconds.
    """

    path: str
    size: int
    inode: int
    changed: int

    @classmethod
    def of(cls, path: str, found: os.stat_result) -> SourceFile:
        """Return a file as the file system describes it."""
        inode = found.st_ino if _keeps_changes(found.st_dev) else 0
        return cls(path, found.st_size, inode, found.st_ctime_ns)


@cache
def _keeps_changes(device: int) -> bool:
    """Return whether the time of a file's last change cannot be set back on a device; only Linux tells that."""
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
        place = f"{os.major(device)}:{os.minor(device)}"
    except (OSError, AttributeError):
        return True
    # ``36 35 98:0 / /data ro - squashfs /dev/loop0 ro``
    kinds = {mount.partition(" - ")[2].split()[0] for mount in mounts if mount.split()[2] == place}
    return not any(kind in COPIED_TIMES or kind.startswith("fuse") for kind in kinds)


def signature(folder: Path, files: Iterable[SourceFile], options: str = "") -> str:
    """Return the signature of source files: it changes with their content, and mostly needs not read them.

    A file is itself by its number and the time of its last change: neither a copy with the old times nor files that
    change places keep both. Where a file system has no such numbers, or a file was changed so recently that a second
    change could have the same time, the file is read.

    Args:
        folder: the data set's folder.
        files: its files; the order counts.
        options: how they are read.

    Returns:
        64 hexadecimal digits.
    """
    settled = time.time_ns() - SETTLED
    lines = [
        f"{path}\t{size}\t{inode}\t{changed}" if inode and changed < settled else f"{path}\t{_content(folder / path)}"
        for path, size, inode, changed in files
    ]
    text = "\n".join([f"format {FORMAT} {options}", *lines])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _content(path: Path) -> str:
    """Return the digest of a file's content; that it cannot be read is reported where it is decoded."""
    try:
        # A pipe would be waited for without end.
        if not path.is_file():
            return "no file"
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return str(error)


def allocate(shape: tuple[int, ...], dtype: DTypeLike = np.uint8) -> np.ndarray:
    """Make room in a file of the cache, such as for images that a build of :func:`cached` decodes.

    So a set may be larger than the memory: what is decoded goes to disk, and the file is kept as it is.
    Where the cache cannot be written the room is in memory.

    Raises:
        KdopsError: there is no room in memory either.
    """
    path = None
    try:
        _folder().mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(dir=_folder(), prefix="images.", suffix=".tmp")
        os.close(handle)
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        if hasattr(os, "posix_fallocate"):
            # Without its blocks a full disk would kill the process at some later write into the map.
            with open(path, "rb+") as file:
                os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
        return array
    except OSError as error:
        _log.warning("there is no room on disk for what does not fit into memory (%s)", error)
        if path is not None:
            Path(path).unlink(missing_ok=True)
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size > psutil.virtual_memory().available:
            told = f"{size / 1e9:.1f} GB"
            raise KdopsError(f"the decoded images take {told}: neither {_folder()} nor the memory has room") from error
        return np.empty(shape, dtype=dtype)


class ReadAhead:
    """Reads and verifies in a thread what was decoded last under a name: mostly it is what will be asked for.

    To verify every byte needs nothing of the list of source files, which takes longer.
    """

    def __init__(self, name: str):
        self._guess = _newest(name)
        self._found: Arrays | _DamagedError | None = None
        # A wrong guess is not waited for.
        self._thread = threading.Thread(target=self._look, name="read-ahead", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        if self._guess is None:
            return
        try:
            self._found = _read(self._guess)
        except _DamagedError as error:
            self._found = error

    def read(self, pointer: Path) -> Arrays | None:
        """Wait for the result of :func:`_read` and return it."""
        if pointer != self._guess:
            return _read(pointer)
        self._thread.join()
        if isinstance(self._found, _DamagedError):
            raise self._found
        return self._found


def cached(name: str, key: str, build: Callable[[], Arrays], ahead: ReadAhead | None = None) -> Arrays:
    """Return the data set from the cache, or build it and keep it.

    Two processes that need the same data set at once build it once: the second waits for the first.
    Where the cache cannot be written (a full disk, a read-only home) the data set is built in memory, and
    a warning is logged.

    Args:
        name: the data set, for the file's name.
        key: the :func:`signature` of its source files.
        ahead: has begun to read under this name.

    Returns:
        The data set, with memory-mapped images.
    """
    folder = _folder()
    pointer = folder / f"{name}-{key[:32]}.json"
    try:
        # Files are replaced atomically and checked by digest: reading needs no lock.
        if (found := ahead.read(pointer) if ahead else _read(pointer)) is not None:
            return found
    except _DamagedError:
        pass  # It may be on its way to being repaired: look again under the lock.
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / ".lock").acquire()
    except (OSError, NotImplementedError) as error:
        _log.warning("the decoded %s images are not kept: %s", name, error)
        return build()
    with held:
        try:
            if (found := _read(pointer)) is not None:
                return found
        except _DamagedError as error:
            _log.warning("the cache of %s is damaged (%s) and is made again", name, error)
        _clear(folder)
        try:
            return _keep(name, pointer, build())
        finally:
            _clear(folder)


class _DamagedError(Exception):
    """A cache that is there and cannot be trusted."""


def _keep(name: str, pointer: Path, built: Arrays) -> Arrays:
    """Write the data set and return it memory-mapped; under the lock."""
    try:
        content: dict[str, object] = {"format": FORMAT, "digest": built.digest, "classes": built.classes}
        content |= {"turned": built.turned} if built.turned else {}
        arrays = list(ARRAYS)
        if built.validation is not None:
            arrays.append(VALIDATION)
            content["arrays"] = arrays
        for array in arrays:
            path, values = _array_path(pointer, built.digest, array), getattr(built, array)
            # Windows renames no file that is mapped.
            if os.name != "nt" and _is_allocated(values, pointer.parent):
                _move(values, path)
            else:
                _write(path, lambda file, values=values: np.save(file, values, allow_pickle=False))
        # The pointer comes last: it never names arrays that are not there yet.
        _write(pointer, lambda file: file.write(json.dumps(content, indent=1).encode()))
        return _read(pointer) or built
    except (OSError, _DamagedError) as error:
        _log.warning("the decoded %s images are not kept: %s", name, error)
        return built


def _read(pointer: Path) -> Arrays | None:
    """Read and verify the data set that ``pointer`` names; ``None`` where there is none.

    Raises:
        _DamagedError: something is there, but it is not what was written.
    """
    try:
        content = json.loads(pointer.read_bytes())
        names = [*ARRAYS, VALIDATION] if "arrays" in content else ARRAYS
        arrays = {array: _map(_array_path(pointer, content["digest"], array)) for array in names}
        # Mapping the small arrays would only cost file handles.
        arrays = {name: array if name == "images" else np.array(array) for name, array in arrays.items()}
        found = Arrays.of(
            arrays["images"],
            arrays["labels"],
            arrays["tracks"],
            arrays["test"],
            content["classes"],
            arrays.get(VALIDATION),
        )
        found = replace(found, turned=int(content.get("turned", 0)))
    except FileNotFoundError as error:
        if error.filename == str(pointer):
            return None
        raise _DamagedError(f"{Path(error.filename).name} is missing") from error
    except (OSError, ValueError, KeyError, TypeError, EOFError, SyntaxError) as error:
        raise _DamagedError(" ".join(str(error).split()) or type(error).__name__) from error
    if found.digest != content["digest"]:
        raise _DamagedError("its content does not have the digest that was recorded")
    return found


def _map(path: Path) -> np.ndarray:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.offset + array.nbytes != path.stat().st_size:
        raise ValueError(f"{path.name} does not have its size")
    return array


def _newest(name: str) -> Path | None:
    """Return the pointer that was written last under a name; None without one, or where the folder cannot be read."""
    try:
        return max(_folder().glob(f"{name}-*.json"), key=lambda pointer: pointer.stat().st_mtime_ns, default=None)
    except OSError:
        return None


def _folder() -> Path:
    return user_cache_folder() / "decoded"


def _clear(folder: Path) -> None:
    """Remove what is half made; under the lock, so that no process is still writing it."""
    for stale in folder.glob("*.tmp"):
        with suppress(PermissionError):  # Windows keeps a file that is mapped
            stale.unlink(missing_ok=True)


def _is_allocated(array: np.ndarray, folder: Path) -> bool:
    """Return whether an array is the room that :func:`allocate` made, the whole of it."""
    file = Path(getattr(array, "filename", None) or "")
    return file.parent == folder and file.suffix == ".tmp" and isinstance(array.base, mmap.mmap)


def _move(array: np.memmap, path: Path) -> None:
    """Return an allocated array its name, once all of it is on disk."""
    array.flush()
    written = Path(str(array.filename))
    with open(written, "rb") as file:
        os.fsync(file.fileno())
    os.replace(written, path)


def _array_path(pointer: Path, digest: str, array: str) -> Path:
    return pointer.with_name(f"{digest}.{array}.npy")


def _write(path: Path, write: Callable) -> None:
    """Write a file so that it is there whole or not at all, whatever happens meanwhile."""
    with replace_file(path) as temporary, open(temporary, "wb") as file:
        write(file)
