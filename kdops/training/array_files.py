"""Arrays that an engine's workers on this machine open as files."""

from __future__ import annotations

import hashlib
import mmap
import os
import platform
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from kdops.errors import KdopsError
from kdops.utils.files import SHARED_MEMORY, temporary_folder

SMALL = 1_000_000
"""Bytes of a file that is read whole; a larger one is mapped, so that all workers share its pages."""

Files = dict[str, tuple[str, str]]
"""Path and SHA-256 of arrays by digest; the latter is empty where a file of this machine, which was there before, is
opened on it: decoded images."""


class ArrayFiles:
    """The arrays that orders name, as files: in shared memory where there is room.

    Attributes:
        files: path and SHA-256 of each by digest.
    """

    def __init__(self) -> None:
        self.files: Files = {}
        self._folders: dict[str, Path] = {}
        self._made = ExitStack()

    def put(self, digest: str, array: np.ndarray) -> None:
        """Write an array, unless it is there, or is the content of a file already."""
        if digest in self.files:
            return
        if (path := file_of(array)) is not None:
            self.files[digest] = (path, "")
            return
        place = self._folder(2 * array.nbytes) / f"{len(self.files)}.npy"
        np.save(place, array)
        self.files[digest] = (str(place), sha256_of(array))

    def close(self) -> None:
        """Remove the files."""
        self.files.clear()
        self._folders.clear()
        self._made.close()

    def _folder(self, size: int) -> Path:
        is_there = os.path.isdir(SHARED_MEMORY) and shutil.disk_usage(SHARED_MEMORY).free > size
        where = SHARED_MEMORY if is_there else tempfile.gettempdir()
        if where not in self._folders:
            self._folders[where] = self._made.enter_context(temporary_folder(where))
        return self._folders[where]


def file_of(array: np.ndarray) -> str | None:
    """Return the file of an array that is the whole content of one, such as decoded images."""
    if not isinstance(array, np.memmap) or not isinstance(array.base, mmap.mmap) or array.filename is None:
        return None
    try:
        whole = np.load(array.filename, mmap_mode="r")
    except (OSError, ValueError):
        return None
    same = (whole.shape, whole.dtype, whole.offset) == (array.shape, array.dtype, array.offset)
    return str(array.filename) if same else None


def sha256_of(array: np.ndarray) -> str:
    """Return the SHA-256 of an array's bytes, hexadecimal."""
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()


class OpenedFiles(dict[str, np.ndarray]):
    """The arrays of a worker, opened as orders name them."""

    def __init__(self) -> None:
        super().__init__()
        self.files: Files = {}

    def __missing__(self, digest: str) -> np.ndarray:
        path, expected = self.files[digest]
        if not os.path.exists(path):
            raise KdopsError(f"{platform.node()} has no {path}, which the study reads: share its folder")
        # Changes, which nothing makes, would stay this process' own.
        array: np.ndarray = np.load(path, mmap_mode="c" if os.path.getsize(path) > SMALL else None)
        if expected and (found := sha256_of(array)) != expected:
            digests = f"{path} has the digest {found[:12]}, that of the study {expected[:12]}"
            raise KdopsError(f"this worker has other data: {digests}")
        self[digest] = array
        return array
