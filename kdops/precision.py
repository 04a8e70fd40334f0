"""How precisely a graphics processor multiplies while networks are trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["tensor_cores"]


@contextmanager
def tensor_cores(device: object) -> Iterator[None]:
    """Let a graphics processor's tensor cores take the products and convolutions of a training.

    They round the factors to TF32 (8 bits of exponent, 10 of mantissa) and add up in single precision; PyTorch itself
    lets them take convolutions only. Elsewhere, and afterwards, everything is as it was: what is measured of a trained
    network is measured in single precision.

    Args:
        device: where is trained; on any other than a graphics processor nothing changes.
    """
    import torch

    if torch.device(device).type != "cuda":
        yield
        return
    places = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "tf32"
        yield
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision
