"""Small labeled images that can be learned, for the tests of training."""

from __future__ import annotations

import torch

from kdops.training.trainer import Images
from kdops.utils.random import named_generator

__all__ = ["quarters"]


def quarters(count: int, seed: int, side: int) -> Images:
    """Return gray images of four classes, ``[count, 1, side, side]``: each class is bright in a quarter of its own."""
    stream, half = named_generator("images", seed), side // 2
    labels = torch.randint(0, 4, (count,), generator=stream)
    noise = torch.randint(0, 120, (count, 1, side, side), generator=stream)
    for row, label in zip(noise, labels, strict=True):
        down, right = half * (label // 2), half * (label % 2)
        row[:, down : down + half, right : right + half] += 100
    return Images(noise.to(torch.uint8), labels)
