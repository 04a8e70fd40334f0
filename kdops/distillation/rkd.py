"""The method ``rkd``: how the images of a batch lie to each other in the source's embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdops.distillation.method import Method, Needs, Step

__all__ = ["RelationalDistillation"]

EMBEDDING = "embedding"

TINY = 1e-12

VALUES_AT_ONCE = {"cpu": 2**18, "cuda": 2**25}
"""Angles that are computed at a time: what a core keeps in its cache, and what fills a GPU."""


@dataclass(frozen=True)
class RelationalDistillation(Method):
    r"""``CE(labels) + distance · L_D + angle · L_A``; the temperature has no part in it.

    With embeddings :math:`e_i` of the images of a batch and the Huber loss :math:`\ell` (equation 6):

    .. math::
        \psi_D(i, j) = \|e_i - e_j\| / \mu, \qquad
        \psi_A(i, j, k) = \cos \angle e_i e_j e_k, \qquad
        L = \operatorname{mean} \ell(\psi^T, \psi^S)

    where :math:`\mu` is the mean distance of the batch's pairs (equations 4, 5 and 8 to 10). The paper adds up the
    losses of all pairs and triplets. The authors' code takes means, also over i = j, whose distance is 0, and the
    weights 25 and 50 are of these means; so has this. A batch of B images has B³ angles.

    Reference: Park, Kim, Lu and Cho, "Relational Knowledge Distillation", CVPR 2019.

    Attributes:
        distance: weight of the distances.
        angle: weight of the angles.
    """

    distance: float | Tensor = 25.0
    angle: float | Tensor = 50.0

    @property
    def needs(self) -> Needs:
        """The embedding of both networks, which may differ in size."""
        return Needs((EMBEDDING,), (EMBEDDING,))

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the terms ``distance`` and ``angle``."""
        gaps, source_gaps = _gaps(step.student.features[EMBEDDING]), _gaps(step.source.features[EMBEDDING])
        apart = F.smooth_l1_loss(_scaled(gaps), _scaled(source_gaps), reduction="none").mean(dim=(1, 2))
        bent = _AngleLoss.apply(gaps, source_gaps)
        weights = [w.to(gaps.dtype) if isinstance(w, Tensor) else w for w in (self.distance, self.angle)]
        return {"distance": weights[0] * apart, "angle": weights[1] * bent}


def _gaps(points: Tensor) -> Tensor:
    """Return the distance of each pair of a batch, ``[M, B, D]`` to ``[M, B, B]``; its gradient is 0 where it is 0."""
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


def _scaled(gaps: Tensor) -> Tensor:
    """Divide distances by their mean over all that are not 0."""
    count = (gaps > 0).sum(dim=(1, 2), keepdim=True).clamp_min(1)
    return gaps / (gaps.sum(dim=(1, 2), keepdim=True) / count).clamp_min(TINY)


class _AngleLoss(torch.autograd.Function):
    """The mean Huber loss between the cosines of all angles of two batches, each given by its distances ``[M, B, B]``.

    By the law of cosines no more is needed: ``cos(i, j, k) = (d_ij² + d_jk² - d_ik²) / (2 d_ij d_jk)``, which counts as
    0 where one of the two sides is 0. There are B³ of them, so they are computed for some vertices j at a time, and
    the gradient with them.
    """

    @staticmethod
    def forward(ctx, gaps: Tensor, source_gaps: Tensor) -> Tensor:
        """Return ``[M]``."""
        members, batch, _ = gaps.shape
        loss, gradient = gaps.new_zeros(members), torch.zeros_like(gaps)
        vertices = max(1, VALUES_AT_ONCE[gaps.device.type] // batch**2)
        for own, source, total, slope in zip(gaps, source_gaps, loss, gradient, strict=True):
            inverse, source_inverse = _inverse(own), _inverse(source)
            squares, source_squares = own.square(), source.square()
            for start in range(0, batch, vertices):
                rows = slice(start, start + vertices)
                sides, over = own[rows], inverse[rows]
                product = over.unsqueeze(2) * over.unsqueeze(1)
                excess = _cosines(sides, over, squares, product)
                excess -= _cosines(source[rows], source_inverse[rows], source_squares)
                slopes = excess.clamp(-1.0, 1.0)
                total += torch.dot(slopes.flatten(), excess.flatten()) - slopes.square().sum() / 2
                # The derivative by the two sides at the vertex, and by the side across.
                direct = torch.bmm(slopes, torch.stack([over, sides], 2))
                slopes *= product
                slope[rows] += direct[..., 0] - over.square() * direct[..., 1] + over * (slopes * squares).sum(2)
                slope -= own * slopes.sum(0)
        ctx.save_for_backward(gradient / batch**3)
        return loss / batch**3

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None]:
        """Return the gradient by the first distances."""
        (gradient,) = ctx.saved_tensors
        return upstream.view(-1, 1, 1) * gradient, None


def _inverse(gaps: Tensor) -> Tensor:
    return torch.where(gaps > 0, 1 / gaps, 0.0)


def _cosines(sides: Tensor, over: Tensor, squares: Tensor, product: Tensor | None = None) -> Tensor:
    """Return the cosines ``[V, B, B]`` at V vertices: of their distances, these inverted, and all squared distances."""
    product = over.unsqueeze(2) * over.unsqueeze(1) if product is None else product
    found = torch.bmm(torch.stack([sides, over], 2), torch.stack([over, sides], 1))
    return found.addcmul_(product, squares.expand_as(product), value=-1.0).mul_(0.5)
