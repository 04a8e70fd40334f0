"""Some of the images of a data set, evenly among all, as tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kdops.data.dataset import Dataset


def evenly(rows: np.ndarray, count: int) -> np.ndarray:
    """Return so many of the rows, which lie evenly among all; all where there are no more."""
    return np.asarray(rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)])


def examples_of(data: Dataset, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return the images of some rows, uint8 ``[N, C, H, W]``, and their labels, class numbers ``[N]``."""
    return torch.from_numpy(np.array(data.images[rows])), torch.from_numpy(np.array(data.labels[rows]))
