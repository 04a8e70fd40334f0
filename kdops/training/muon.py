"""The optimizer Muon, for hidden matrices that are stacked or alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kdops.training.update import Update

QUINTIC = (3.4445, -4.7750, 2.0315)
"""The coefficients of an iteration, those of the authors and of :class:`torch.optim.Muon`."""

ITERATIONS = 5
SMALLEST = 1e-7
"""The least norm that a matrix is divided by."""


@dataclass(frozen=True)
class Muon:
    """Momentum whose update is made orthogonal (Jordan et al., 2024), as in :class:`torch.optim.Muon`.

    The update of a matrix of r rows and c columns is 0.2 sqrt(max(r, c)) times the rate, so that its values are of the
    size that Adam's have, and one rate is for both (Liu et al., "Muon is Scalable for LLM Training", 2025).

    Attributes:
        momentum: of the gradient, Nesterov's.
    """

    momentum: float

    @property
    def kept(self) -> tuple[str, ...]:
        """The mean of the gradient."""
        return ("momentum",)

    def start(self, tensor: Tensor) -> list[Tensor]:
        """Return the mean, zero."""
        return [torch.zeros_like(tensor)]

    def update(self, given: Update) -> None:
        """Update tensors that consist of matrices."""
        every = zip(given.tensors, given.gradients, given.kept[0], given.matrices, strict=True)
        for tensor, gradient, mean, own in every:
            mean.lerp_(gradient, 1 - self.momentum)
            step = orthogonal(own.of(gradient.lerp(mean, self.momentum))).reshape(tensor.shape)
            tensor.mul_(1 - given.rate * given.decay).sub_(
                step * (given.rate * 0.2 * math.sqrt(max(own.rows, own.columns)))
            )


def orthogonal(matrices: Tensor) -> Tensor:
    """Return matrices ``[K, rows, columns]`` with their singular values brought near 1, by Newton and Schulz.

    Rows and columns of zeros stay zero, so padding changes nothing.
    """
    is_high = matrices.shape[1] > matrices.shape[2]
    found = matrices.transpose(1, 2) if is_high else matrices
    found = found / torch.linalg.matrix_norm(found, keepdim=True).clamp_min(SMALLEST)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        gram = found @ found.transpose(1, 2)
        found = torch.baddbmm(found, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.transpose(1, 2) if is_high else found
