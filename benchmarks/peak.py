"""What the machine can do at best, measured in the same run: a large matrix product, and a bare convolution."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from benchmarks.pairs import seconds_of
from kdops.utils.hardware import allow_tf32

__all__ = ["convolutions", "matrix_flops"]


def matrix_flops(device: str = "cpu", times: int = 4, rounds: int = 5, dtype: torch.dtype = torch.float32) -> float:
    """Return the floating point operations a second of a product of two square matrices.

    A peak is what the machine can do: the best of several rounds, since other work on it slows some of them. In single
    precision a graphics processor has its tensor cores, as in training.
    """
    side = 8192 if device == "cuda" else 2048
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(left)

    def multiply() -> None:
        with allow_tf32(device):
            for _ in range(times):
                torch.mm(left, right, out=out)

    multiply()
    return times * 2 * side**3 / min(seconds_of(multiply, device) for _ in range(rounds))


def convolutions(batch: int, filters: int = 128, layers: int = 3, side: int = 32):
    """Return an action: the teacher's convolutions of one batch alone, forward and both gradients, nothing between.

    The first one's gradient of the images is not computed, as in training.
    """
    stages, channels = [], 3
    for number in range(layers):
        images = torch.randn(batch, channels, side, side).contiguous(memory_format=torch.channels_last)
        weight = torch.randn(filters, channels, 3, 3).contiguous(memory_format=torch.channels_last)
        out = torch.randn(batch, filters, side, side).contiguous(memory_format=torch.channels_last)
        stages.append((images.requires_grad_(number > 0), weight.requires_grad_(), out))
        channels, side = filters, side // 2

    def run() -> None:
        for images, weight, out in stages:
            wanted = [images, weight] if images.requires_grad else [weight]
            torch.autograd.grad(F.conv2d(images, weight, padding=1), wanted, out)

    return run
