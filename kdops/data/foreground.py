"""Where the object is in an image, as far as the data say so."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kdops.config.datasets import parse_dataset
from kdops.data.dataset import Dataset, data_folder
from kdops.data.gtsrb import test_boxes

CENTER = (1 / 6, 1 / 6, 5 / 6, 5 / 6)
"""What is taken for the object where the data do not say: all but a sixth on each side."""


def foreground_boxes(data: Dataset, data_root: str, rows: np.ndarray) -> tuple[np.ndarray, str]:
    """Return the box of the object in some test images, and in words what that is.

    Args:
        data: the data.
        data_root: the folder that they were read from; empty for the usual one.
        rows: the images, none but test images.

    Returns:
        Left, top, right and bottom of each as shares of width and height, ``[N, 4]``.

    Raises:
        UsageError: the table that has the boxes cannot be read.
    """
    if not data.test[rows].all():
        raise ValueError("boxes are known of test images only")
    if parse_dataset({"dataset": data.given}).kind != "gtsrb":
        return np.tile(CENTER, (len(rows), 1)), "all but a sixth on each side"
    places = np.cumsum(data.test)[rows] - 1
    return test_boxes(data_folder(data_root))[places], "the box of the sign"


def patches_within(boxes: np.ndarray, grid: int) -> Tensor:
    """Return which patches of a grid have their middle in a box, bool ``[N, grid, grid]``, rows from top to bottom."""
    middle = (np.arange(grid) + 0.5) / grid
    left, top, right, bottom = (boxes[:, side, None] for side in range(4))
    across, down = (left <= middle) & (middle < right), (top <= middle) & (middle < bottom)
    return torch.from_numpy(down[:, :, None] & across[:, None, :])
