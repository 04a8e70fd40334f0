"""Embeddings of a batch as unit vectors, and gradients through them, which several methods use."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["gradient_of_products", "unit_rows"]

TINY = 1e-12


def unit_rows(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return points ``[M, B, D]`` divided by their lengths, and the lengths ``[M, B, 1]``; a zero stays one."""
    lengths = torch.linalg.vector_norm(points, dim=-1, keepdim=True).clamp_min_(TINY)
    return points / lengths, lengths


def gradient_of_products(slopes: Tensor, units: Tensor, lengths: Tensor) -> Tensor:
    """Return the gradient by points of a loss whose gradient by the cosines of all pairs is known.

    Args:
        slopes: ``[M, B, B]``.
        units: see :func:`unit_rows`.
        lengths: likewise.
    """
    found = (slopes + slopes.mT) @ units
    return (found - (found * units).sum(dim=-1, keepdim=True) * units) / lengths
