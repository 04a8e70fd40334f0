"""The method ``cc``: the correlation of the images of a batch, by a Gaussian kernel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kdops.distillation.relations import BatchRelation, gradient_of_products, unit_rows
from kdops.distillation.softening import as_weight


@dataclass(frozen=True)
class CorrelationCongruence(BatchRelation):
    r"""``CE(labels) + weight / B² · ||K_source - K_student||²``.

    With :math:`c_{ij}` the cosine of the embeddings of two images, a Gaussian kernel of their unit vectors by its
    Taylor series up to an order P (equations 5 to 7):

    .. math::
        K_{ij} = e^{-2 \gamma} \sum_{p=0}^P \frac{(2 \gamma)^p}{p!} c_{ij}^p
        \approx \exp(-\gamma \|u_i - u_j\|^2)

    The public code (RepDistiller) has another loss, of neighbors in the order of the batch, and the weight 0.02 for it.
    The paper draws batches by class; here they are drawn at random, as for any method. The temperature has no part.

    Reference: Peng, Jin, Liu, Li, Wu, Liu, Zhou and Zhang, "Correlation Congruence for Knowledge Distillation", ICCV
    2019.

    Attributes:
        weight: of the difference.
        gamma: of the kernel; the paper's is 0.4.
        order: of the series; the paper's is 2.
    """

    weight: float | Tensor = 100.0
    gamma: float | Tensor = 0.4
    order: int = 2

    term = "correlation"

    def relation(self, source: Tensor) -> Tensor:
        """Return the cosines of the sources; the kernel may differ by member."""
        units, _ = unit_rows(source)
        return units @ units.mT

    def compare(self, points: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss ``[M]`` and its gradient by the points ``[M, B, D]``."""
        twice = (2 * as_weight(self.gamma, points) * points.new_ones(1)).view(-1, 1, 1)
        size = torch.exp(-twice)
        units, lengths = unit_rows(points)
        cosines = (units @ units.mT).mul_(twice)
        gaps = (_series(self.order, cosines) - _series(self.order, theirs * twice)).mul_(size)
        loss = gaps.square().sum(dim=(1, 2)) / points.shape[1] ** 2
        # The derivative of the series is the series of one order less.
        slopes = _series(self.order - 1, cosines).mul_(gaps).mul_(size * twice * (2 / points.shape[1] ** 2))
        return loss, gradient_of_products(slopes, units, lengths)


def _series(order: int, values: Tensor) -> Tensor:
    """Return the Taylor series of the exponential function up to an order."""
    found = torch.ones_like(values)
    for power in range(order, 0, -1):
        found.mul_(values).div_(power).add_(1)
    return found
