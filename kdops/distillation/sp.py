"""The method ``sp``: how alike the images of a batch are to each other, row by row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kdops.distillation.relations import BatchRelation

TINY = 1e-12


@dataclass(frozen=True)
class SimilarityPreserving(BatchRelation):
    r"""``CE(labels) + weight / B² · ||G_source - G_student||²``.

    With the embeddings of a batch as rows of F (equations 1 to 4):

    .. math:: G_{i,:} = \tilde G_{i,:} / \|\tilde G_{i,:}\|_2, \qquad \tilde G = F F^\top

    The norm is Frobenius'. The paper takes the last convolution's map, flat; here it is the embedding. Paper and the
    public code (RepDistiller) agree. The smaller last batch of an epoch counts more, as it does there. The temperature
    has no part in it.

    Reference: Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019.

    Attributes:
        weight: of the difference; the paper's is 3,000.
    """

    weight: float | Tensor = 3000.0

    term = "similarity"

    def relation(self, source: Tensor) -> Tensor:
        """Return G of the sources."""
        return _rows(source)[0]

    def compare(self, points: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss ``[M]`` and its gradient by the points ``[M, B, D]``."""
        rows, lengths = _rows(points)
        gaps = rows - theirs
        loss = gaps.square().sum(dim=(1, 2)) / points.shape[1] ** 2
        slopes = gaps.mul_(2 / points.shape[1] ** 2)
        slopes = (slopes - (slopes * rows).sum(dim=-1, keepdim=True) * rows).div_(lengths)
        return loss, (slopes + slopes.mT) @ points


def _rows(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return G ``[M, B, B]``, and the lengths of the rows before ``[M, B, 1]``; a row of zeros stays one."""
    products = points @ points.mT
    lengths = torch.linalg.vector_norm(products, dim=-1, keepdim=True).clamp_min_(TINY)
    return products.div_(lengths), lengths
