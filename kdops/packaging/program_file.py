"""The file of an exported program, written for many networks that differ only in their weights.

``torch.export.save`` turns the graph into text each time, which takes longer than all else of a small model's folder.
Its archive (PT2, https://docs.pytorch.org/docs/stable/export/pt2_archive.html) holds graph and weights as records of
their own, so a network's file is another one's with its own weights in place: the bytes are those that
``torch.export.save`` would write. Apart from :mod:`kdops.packaging.program`, which opens such a file, since a copy of
that one lies beside each model.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from kdops.utils.quiet import without_warning

CONFIG = "data/weights/model_weights_config.json"
WRITERS_OWN = (".data/", "byteorder")
"""The records that an archive's writer adds by itself."""
VIEWS = "No complete tensor found in the group"
"""What torch warns of where weights are views of one another."""


class ProgramFile:
    """A program that networks of one architecture share.

    Args:
        path: the program as ``torch.export.save`` wrote it, with the weights of any of them.
    """

    def __init__(self, path: Path):
        # Not above: it brings sympy and torch's compiler, seconds that a study with nothing to store need not spend.
        from torch.export.pt2_archive import PT2ArchiveReader

        self._lock = threading.Lock()
        self._program = torch.export.load(path)
        with PT2ArchiveReader(str(path)) as archive:
            names = [name for name in archive.get_file_names() if not name.startswith(WRITERS_OWN)]
            self._records = {name: archive.read_bytes(name) for name in names}
        self._places = self._found()

    def write(self, path: Path, state: Mapping[str, Tensor]) -> None:
        """Write the program with a network's weights; any number of threads may do so at the same time.

        Args:
            state: the weights by name, of the program's shapes and types.

        Raises:
            ValueError: the weights have other names, shapes or types than the program's.
        """
        wanted, given = _described(self._program.state_dict), _described(state)
        if wanted != given:
            raise ValueError(f"the program has the weights {wanted}, not {given}")
        if self._places is None:
            self._export(path, state)
            return
        from torch.export.pt2_archive import PT2ArchiveWriter

        weights = {place: _bytes(state[name]) for name, place in self._places.items()}
        with PT2ArchiveWriter(str(path)) as archive:
            for name, content in self._records.items():
                archive.write_bytes(name, weights.get(name, content))

    def _export(self, path: Path, state: Mapping[str, Tensor]) -> None:
        # All threads write the one program's weights. Weights that are views of one another are what this way is for.
        with self._lock, without_warning(VIEWS), torch.no_grad():
            for name, known in self._program.state_dict.items():
                known.copy_(state[name])
            torch.export.save(self._program, path)

    def _found(self) -> dict[str, str] | None:
        """Return the record of each weight; None where two share one, or one is not the weight's plain bytes."""
        config = json.loads(self._records.get(CONFIG, b'{"config": {}}'))["config"]
        places = {name: f"data/weights/{described['path_name']}" for name, described in config.items()}
        known = self._program.state_dict
        if set(places) != set(known) or len(set(places.values())) != len(places):
            return None
        plain = all(self._records.get(place) == _bytes(known[name]) for name, place in places.items())
        return places if plain else None


def _described(state: Mapping[str, Tensor]) -> dict[str, str]:
    return {name: f"{value.dtype} {list(value.shape)}" for name, value in state.items()}


def _bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().numpy().tobytes()
