"""How the models of a study are written, one packager an architecture: it exports a network once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kdops.config.architectures import Architecture
from kdops.data.dataset import Dataset
from kdops.errors import UsageError
from kdops.store.faults import first_line

if TYPE_CHECKING:
    from kdops.models.classifier import Classifier
    from kdops.packaging.folder import Packager


class Packagers:
    """The packagers of a study and all its parts, made as they are asked for."""

    def __init__(self, data: Dataset):
        self._data = data
        self._packagers: dict[str, Packager] = {}

    def of(self, architecture: Architecture, network: Callable[[], Classifier]) -> Packager:
        """Return what writes the models of an architecture.

        Args:
            network: returns one of its networks, to be exported by.
        """
        from kdops.packaging.folder import Packager

        text = str(architecture)
        if text not in self._packagers:
            metadata = {**self._data.metadata, "architecture": text}
            self._packagers[text] = Packager(network(), self._data.shape, metadata)
        return self._packagers[text]

    def check(self, role: str, architecture: Architecture, network: Callable[[], Classifier]) -> None:
        """Refuse a network that cannot be stored, before it is trained. Raises UsageError if it cannot be exported."""
        try:
            self.of(architecture, network)
        except Exception as error:
            raise UsageError(
                role, architecture, f"cannot be exported by torch.export: {first_line(error, 200)}"
            ) from error
