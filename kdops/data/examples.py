"""Some of the images of a data set, as tensors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from kdops.data.dataset import Dataset

BLOCK = 512
"""Images at a time, which bounds the memory."""


def evenly(rows: np.ndarray, count: int) -> np.ndarray:
    """Return so many of the rows, which lie evenly among all; all where there are no more."""
    return np.asarray(rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)])


def in_blocks(images: np.ndarray, rows: np.ndarray, size: int = BLOCK) -> Iterator[Tensor]:
    """Yield some images as tensors, uint8 ``[B, C, H, W]``, ``size`` at a time."""
    return (torch.from_numpy(np.array(images[rows[start : start + size]])) for start in range(0, len(rows), size))


def examples_of(data: Dataset, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return the images of some rows, uint8 ``[N, C, H, W]``, and their labels, class numbers ``[N]``."""
    return torch.from_numpy(np.array(data.images[rows])), torch.from_numpy(np.array(data.labels[rows]))
