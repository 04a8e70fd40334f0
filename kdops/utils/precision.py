"""How precisely a graphics processor computes while networks are trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

__all__ = ["arithmetic", "halved", "tensor_cores"]


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


def arithmetic(device: object) -> str:
    """Give the coarsest arithmetic of a training there: ``fp32``, ``tf32`` or ``bf16``, which few older cards have."""
    import torch

    if torch.device(device).type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "tf32"


def halved(device: object) -> AbstractContextManager[object]:
    """Let a graphics processor compute convolutions and products, and keep what is between them, in half precision.

    That is bf16 (8 bits of exponent, 7 of mantissa), which needs no scaling of the loss: "Mixed Precision Training"
    (Micikevicius et al., 2018) in its later form. Weights, loss and optimiser stay in single precision; outputs and
    gradients of weights are rounded before they get there. docs/performance-gpu.md says what it changes.

    Args:
        device: where is trained; on any other than a graphics processor that has bf16 nothing changes.
    """
    import torch

    if arithmetic(device) != "bf16":
        return nullcontext()
    # What is cast must not be kept beyond a step that is recorded.
    return torch.autocast("cuda", torch.bfloat16, cache_enabled=False)
