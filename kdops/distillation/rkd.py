"""The method ``rkd``: how the images of a batch lie to each other in the source's embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdops.config.architectures import EMBEDDING
from kdops.distillation.method import Method, Needs, Step
from kdops.distillation.softening import as_weight

__all__ = ["RelationalDistillation"]

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
    weights 25 and 50 are of these means; so has this. A batch of B images has B³ angles, which for a small student
    take most of the time; ``vertices`` takes those at some images only, which are drawn anew with every batch.

    Reference: Park, Kim, Lu and Cho, "Relational Knowledge Distillation", CVPR 2019.

    Attributes:
        distance: weight of the distances.
        angle: weight of the angles.
        vertices: how many images of a batch are vertices of angles; 0 for all.
    """

    distance: float | Tensor = 25.0
    angle: float | Tensor = 50.0
    vertices: int = 0

    @property
    def needs(self) -> Needs:
        """The embedding of both networks, which may differ in size."""
        return Needs((EMBEDDING,), (EMBEDDING,))

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the terms ``distance`` and ``angle``."""
        gaps, source_gaps = _gaps(step.student.features[EMBEDDING]), _gaps(step.source.features[EMBEDDING])
        apart = F.smooth_l1_loss(_scaled(gaps), _scaled(source_gaps), reduction="none").mean(dim=(1, 2))
        batch = gaps.shape[1]
        bent = _AngleLoss.apply(gaps, source_gaps, min(self.vertices or batch, batch))
        return {"distance": as_weight(self.distance, gaps) * apart, "angle": as_weight(self.angle, gaps) * bent}


def _gaps(points: Tensor) -> Tensor:
    """Return the distance of each pair of a batch, ``[M, B, D]`` to ``[M, B, B]``; its gradient is 0 where it is 0."""
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


def _scaled(gaps: Tensor) -> Tensor:
    """Divide distances by their mean over all that are not 0."""
    count = (gaps > 0).sum(dim=(1, 2), keepdim=True).clamp_min(1)
    return gaps / (gaps.sum(dim=(1, 2), keepdim=True) / count).clamp_min(TINY)


class _AngleLoss(torch.autograd.Function):
    """The mean Huber loss between the cosines of angles of two batches, each given by its distances ``[M, B, B]``.

    By the law of cosines no more is needed: ``cos(i, j, k) = (d_ij² + d_jk² - d_ik²) / (2 d_ij d_jk)``, which counts as
    0 where one of the two sides is 0. There are B² of them at each vertex j, so they are computed for some vertices at
    a time, and the gradient with them, so that none is kept.
    """

    @staticmethod
    def forward(ctx: Any, gaps: Tensor, source_gaps: Tensor, vertices: int) -> Tensor:
        """Return ``[M]``, the mean over the angles at the first ``vertices`` images."""
        members, batch, _ = gaps.shape
        loss, gradient = gaps.new_zeros(members), torch.zeros_like(gaps)
        at_once = max(1, VALUES_AT_ONCE[gaps.device.type] // batch**2)
        for own, source, total, slope in zip(gaps, source_gaps, loss, gradient, strict=True):
            for start in range(0, vertices, at_once):
                rows = slice(start, min(start + at_once, vertices))
                excess, product, difference = _twice_cosines(own, rows)
                excess -= _twice_cosines(source, rows)[0]
                slopes = excess.clamp(-2.0, 2.0)
                flat = slopes.flatten()
                total += (torch.dot(flat, excess.flatten()) - torch.dot(flat, flat) / 2) / 4
                # The derivative by the two sides at the vertex, and by the side across.
                slopes *= product
                sides = own[rows]
                slope -= own * (slopes.sum(0) / 2)
                slope[rows] += (sides * slopes.sum(2) - _inverse(sides) * (slopes * difference).sum(2)) / 2
        count = vertices * batch**2
        ctx.save_for_backward(gradient / count)
        return loss / count

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient by the first distances."""
        (gradient,) = ctx.saved_tensors
        return upstream[0].view(-1, 1, 1) * gradient, None, None


def _inverse(gaps: Tensor) -> Tensor:
    return torch.where(gaps > 0, 1 / gaps, 0.0)


def _twice_cosines(gaps: Tensor, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``2 cos(i, j, k)``, ``1 / (d_ij d_jk)`` and ``d_jk² - d_ik²`` at some vertices j, each ``[V, B, B]``."""
    sides, squares = gaps[rows], gaps.square()
    over = _inverse(sides)
    product = over.unsqueeze(2) * over.unsqueeze(1)
    difference = squares[rows].unsqueeze(1) - squares
    return (difference + squares[rows].unsqueeze(2)).mul_(product), product, difference
