"""How precisely a graphics processor multiplies while networks are trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["tensor_cores"]


@contextmanager
def tensor_cores(device: object) -> Iterator[None]:
    """Let a graphics processor's tensor cores take the matrix products of a training too.

    They round the factors to TF32 (8 bits of exponent, 10 of mantissa) and add up in single precision. Convolutions
    they take anyway: that is PyTorch's own setting, which stays as it is.

    Args:
        device: where is trained; on any other than a graphics processor nothing changes.
    """
    import torch

    if torch.device(device).type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
