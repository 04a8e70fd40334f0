"""The method ``sp``: how alike the images of a batch are to each other, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdops.distillation.method import Method, Needs, Step
from kdops.distillation.softening import as_weight, with_gradient

__all__ = ["SimilarityPreserving"]

EMBEDDING = "embedding"

TINY = 1e-12


@dataclass(frozen=True)
class SimilarityPreserving(Method):
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

    @property
    def needs(self) -> Needs:
        """The embedding of both networks, which may differ in size."""
        return Needs((EMBEDDING,), (EMBEDDING,))

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the term ``similarity``."""
        points = step.student.features[EMBEDDING]
        with torch.no_grad():
            rows, lengths = _rows(points)
            gaps = rows - _rows(step.source.features[EMBEDDING])[0]
            loss = gaps.square().sum(dim=(1, 2)) / points.shape[1] ** 2
            slopes = gaps.mul_(2 / points.shape[1] ** 2)
            slopes = (slopes - (slopes * rows).sum(dim=-1, keepdim=True) * rows).div_(lengths)
            gradient = (slopes + slopes.mT) @ points
        return {"similarity": as_weight(self.weight, points) * with_gradient(points, loss, gradient)}


def _rows(points: Tensor) -> tuple[Tensor, Tensor]:
    """Return G ``[M, B, B]``, and the lengths of the rows before ``[M, B, 1]``; a row of zeros stays one."""
    products = points @ points.mT
    lengths = torch.linalg.vector_norm(products, dim=-1, keepdim=True).clamp_min_(TINY)
    return products.div_(lengths), lengths
