"""Images that stay in their file: for data sets that memory has no room for, read batch by batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

IN_MEMORY = 0.25
"""So much of the free memory the images of one part may take; what takes more is read as it is needed."""


def load_rows(images: np.ndarray, rows: np.ndarray, free: int, more: np.ndarray | None = None) -> Pixels:
    """Return some images of a data set: a copy in memory, or where that would take too much the file itself.

    Args:
        images: uint8 ``[N, C, H, W]``, possibly a memory map.
        rows: which of them.
        free: bytes of memory that are free.
        more: images of the same shape that have the rows from N on.
    """
    mapped = MappedImages(images, rows, more=more)
    has_file = isinstance(images, np.memmap) or isinstance(more, np.memmap)
    return mapped if has_file and math.prod(mapped.shape) > IN_MEMORY * free else mapped[:]


class MappedImages:
    """Rows of a memory map that are read where they are asked for; the part of a tensor's interface that training uses.

    Args:
        images: uint8 ``[N, C, H, W]``.
        rows: which of them, in this order.
        device: where a batch is given.
        more: as of :func:`load_rows`.
    """

    dtype = torch.uint8

    def __init__(
        self,
        images: np.ndarray,
        rows: np.ndarray,
        device: torch.device | str = "cpu",
        more: np.ndarray | None = None,
    ):
        self.images, self.rows, self.device, self.more = images, np.asarray(rows), torch.device(device), more

    @property
    def shape(self) -> torch.Size:
        """The shape ``[N, C, H, W]``."""
        return torch.Size((len(self.rows), *self.images.shape[1:]))

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device | str) -> MappedImages:
        """Return the same images; batches are put on another device."""
        return MappedImages(self.images, self.rows, device, self.more)

    def __getitem__(self, chosen: slice | Tensor) -> Tensor:
        """Read some images: ``[B, C, H, W]`` in memory."""
        rows = self.rows[chosen if isinstance(chosen, slice) else chosen.cpu().numpy()]
        return torch.from_numpy(self._read(rows)).to(self.device)

    def _read(self, rows: np.ndarray) -> np.ndarray:
        if self.more is None:
            return np.array(self.images[rows])
        found, own = np.empty((len(rows), *self.shape[1:]), np.uint8), rows < len(self.images)
        found[own], found[~own] = self.images[rows[own]], self.more[rows[~own] - len(self.images)]
        return found

    def split(self, size: int) -> Iterator[Tensor]:
        """Read all images, ``size`` at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))


Pixels: TypeAlias = Tensor | MappedImages
"""uint8 images ``[N, C, H, W]``, in memory or in their file."""
