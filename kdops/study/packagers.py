"""How the models of a study are written, one packager an architecture: it exports a network once."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from kdops.config.architectures import Architecture
from kdops.data.dataset import Dataset
from kdops.errors import UsageError
from kdops.store.faults import first_line

if TYPE_CHECKING:
    from kdops.models.classifier import Classifier
    from kdops.packaging.folder import Packager


MOST_KEPT = 16
"""Packagers that a process keeps for studies to come; each takes two to three times the bytes of its weights."""

_KEPT: dict[tuple[str, tuple[int, ...], str], Packager] = {}
"""By architecture, shape and metadata, those of architectures whose text says all about them."""


class Packagers:
    """The packagers of a study and all its parts, made as they are asked for.

    To export a network takes longer than to train a small one, so a later study of this process on the same data uses
    those of kdops's own architectures again.
    """

    def __init__(self, data: Dataset):
        self._data = data
        self._packagers: dict[str, Packager] = {}

    def of(self, architecture: Architecture, network: Callable[[], Classifier]) -> Packager:
        """Return what writes the models of an architecture.

        Args:
            network: returns one of its networks, to be exported by.
        """
        text = str(architecture)
        if text not in self._packagers:
            self._packagers[text] = self._kept(architecture, network)
        return self._packagers[text]

    def _kept(self, architecture: Architecture, network: Callable[[], Classifier]) -> Packager:
        """Return the packager of an architecture that this process has, or make one."""
        from kdops.packaging.folder import Packager

        metadata = {**self._data.metadata, "architecture": str(architecture)}
        key = str(architecture), self._data.shape, json.dumps(metadata, sort_keys=True)
        if key in _KEPT:
            return _KEPT[key]
        made = Packager(network(), self._data.shape, metadata)
        if architecture.is_counted:
            if len(_KEPT) >= MOST_KEPT:
                _KEPT.pop(next(iter(_KEPT)))
            _KEPT[key] = made
        return made

    def check(self, role: str, architecture: Architecture, network: Callable[[], Classifier]) -> None:
        """Refuse a network that cannot be stored, before it is trained. Raises UsageError if it cannot be exported."""
        try:
            self.of(architecture, network)
        except Exception as error:
            raise UsageError(
                role, architecture, f"cannot be exported by torch.export: {first_line(error, 200)}"
            ) from error
