"""Checkpoints: long passes of training kept on disk, so that one that was cut off goes on with its last epochs.

PyTorch is imported only once one is read or written: a study that finds all its models there needs none.

A checkpoint is one file of safetensors, named by the digest of all that decides the result of the pass; the plain
values are in its header. It is written beside and renamed, so it is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kdops.utils.files import replace_file

if TYPE_CHECKING:
    from torch import Tensor

FIRST_SECONDS = 60.0
"""A pass is kept at the end of an epoch once it has lasted so long, and when it is done."""

SHARE = 0.02
"""Of the time, saving may take about so much: passes with short epochs are kept more rarely than at each one."""

OLD_SECONDS = 14 * 86400.0
"""Older checkpoints are useless: settings or code have changed since."""

SUFFIX = ".safetensors"

logger = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one store.

    Args:
        folder: where they lie; made with the first one.
        resume: whether to go on with what is there; else it is written anew.
    """

    def __init__(self, folder: Path, resume: bool = True):
        self.folder, self.resume = folder, resume
        self._clear()

    def of(self, digest: str) -> Checkpoint:
        """Return the checkpoint of a pass, there or not, by the digest of all that decides its result."""
        return Checkpoint(checkpoint_path(self.folder, digest), digest, self.resume)

    def remove(self, digest: str) -> None:
        """Remove the checkpoint of a pass whose models are stored."""
        _unlink(checkpoint_path(self.folder, digest))

    def _clear(self) -> None:
        """Remove what is old, and what a killed process had begun to write."""
        for path in [*self.folder.glob(f"*{SUFFIX}"), *self.folder.glob("*.tmp")]:
            try:
                if time.time() - path.stat().st_mtime > OLD_SECONDS:
                    path.unlink()
            except OSError:
                continue


class Checkpoint:
    """One pass on disk.

    Args:
        digest: the digest of all that decides the result of the pass.
        resume: whether to go on with what is there.
    """

    def __init__(self, path: Path, digest: str, resume: bool = True):
        self.path, self.digest, self.resume = path, digest, resume
        self._started = self._saved = time.monotonic()
        self._cost = 0.0
        self._fails = False

    def load(self, like: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, object]] | None:
        """Return what was saved, the tensors on the CPU; None where there is nothing to go on with.

        A checkpoint that is damaged, or of another pass, is reported in one line and ignored.

        Args:
            like: tensors that must be among the saved ones, in shape and kind.
        """
        if not self.resume or not self.path.exists():
            return None
        from safetensors import safe_open

        try:
            with safe_open(self.path, "pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            if header.get("pass") != self.digest:
                raise ValueError("it is of another training")
            if header["digest"] != _digest(tensors, header["plain"]):
                raise ValueError("its content is not what was written")
            for name, one in like.items():
                if name not in tensors or (tensors[name].shape, tensors[name].dtype) != (one.shape, one.dtype):
                    raise ValueError(f"it does not fit: {name}")
            return tensors, json.loads(header["plain"])
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            logger.warning("the checkpoint %s is left out, the training begins anew: %s", self.path, reason)
            return None

    def is_due(self) -> bool:
        """Return whether it is time to save, at the end of an epoch."""
        now = time.monotonic()
        return now - self._started >= FIRST_SECONDS and now - self._saved >= self._cost / SHARE

    def save(self, tensors: Mapping[str, Tensor], plain: Mapping[str, object]) -> None:
        """Keep a pass; a failure to do so is reported once, and the training goes on without.

        Args:
            tensors: by name, on any device; they are copied.
            plain: what JSON can hold; floats keep every bit.
        """
        if self._fails:
            return
        began = time.monotonic()
        try:
            copies = {name: values.cpu().contiguous() for name, values in tensors.items()}
            text = json.dumps(plain)
            _write(self.path, copies, {"pass": self.digest, "plain": text, "digest": _digest(copies, text)})
        except Exception as error:
            self._fails = True
            logger.warning("the training goes on without a checkpoint in %s: %s", self.path.parent, error)
        self._saved = time.monotonic()
        self._cost = self._saved - began


def checkpoint_path(folder: Path, digest: str) -> Path:
    """Return the file of a pass."""
    return folder / f"{digest}{SUFFIX}"


def _digest(tensors: Mapping[str, Tensor], text: str) -> str:
    from kdops.models.classifier import digest_of

    return hashlib.sha256(f"{digest_of(tensors)}{text}".encode()).hexdigest()


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as temporary:
        save_file(dict(tensors), temporary, metadata)


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("%s cannot be removed: %s", path, error)
