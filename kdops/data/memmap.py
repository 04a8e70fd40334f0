"""Images that stay in their file: for data sets that memory has no room for, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

IN_MEMORY = 0.25
"""So much of the free memory the images of one part may take; what takes more is read as it is needed."""


def load_rows(images: np.ndarray, rows: np.ndarray, free: int) -> Pixels:
    """Return some images of a data set: a copy in memory, or where that would take too much the file itself.

    Args:
        images: uint8 ``[N, C, H, W]``, possibly a memory map.
        rows: which of them.
        free: bytes of memory that are free.
    """
    size = len(rows) * int(np.prod(images.shape[1:]))
    if isinstance(images, np.memmap) and size > IN_MEMORY * free:
        return MappedImages(images, rows)
    return torch.from_numpy(np.array(images[rows]))


class MappedImages:
    """Rows of a memory map that are read where they are asked for; the part of a tensor's interface that training uses.

    Args:
        images: uint8 ``[N, C, H, W]``.
        rows: which of them, in this order.
        device: where a batch is given.
    """

    dtype = torch.uint8

    def __init__(self, images: np.ndarray, rows: np.ndarray, device: torch.device | str = "cpu"):
        self.images, self.rows, self.device = images, np.asarray(rows), torch.device(device)

    @property
    def shape(self) -> torch.Size:
        """The shape ``[N, C, H, W]``."""
        return torch.Size((len(self.rows), *self.images.shape[1:]))

    def __len__(self) -> int:
        return len(self.rows)

    def to(self, device: torch.device | str) -> MappedImages:
        """Return the same images; batches are put on another device."""
        return MappedImages(self.images, self.rows, device)

    def __getitem__(self, chosen: slice | Tensor) -> Tensor:
        """Read some images: ``[B, C, H, W]`` in memory."""
        rows = self.rows[chosen if isinstance(chosen, slice) else chosen.cpu().numpy()]
        return torch.from_numpy(np.array(self.images[rows])).to(self.device)

    def split(self, size: int) -> Iterator[Tensor]:
        """Read all images, ``size`` at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))


Pixels: TypeAlias = Tensor | MappedImages
"""uint8 images ``[N, C, H, W]``, in memory or in their file."""
