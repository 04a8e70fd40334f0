"""The method ``rkd``: how the images of a batch lie to each other in the source's embedding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdops.config.architectures import EMBEDDING
from kdops.distillation.distinct import distinct
from kdops.distillation.method import Method, Needs, Step
from kdops.distillation.softening import as_weight, with_gradient

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
        """Return the terms ``distance`` and ``angle``; one whose weight is 0 for all is left out."""
        points = step.student.features[EMBEDDING]
        batch, found = points.shape[1], {}
        with torch.no_grad():
            own, turn = _within_few(points)
            theirs, whose = distinct(step.source.features[EMBEDDING])
            gaps, source_gaps = _gaps(own), _gaps(theirs)
            if _counts(self.distance):
                apart = _compare_distances(own, gaps, torch.stack([source_gaps[number] for number in whose]))
                found["distance"] = self.distance, apart
            if _counts(self.angle):
                bent = _compare_angles(own, gaps, source_gaps, whose, min(self.vertices or batch, batch))
                found["angle"] = self.angle, bent
        return {
            name: as_weight(weight, gaps)
            * with_gradient(points, loss, gradient if turn is None else gradient @ turn.mT)
            for name, (weight, (loss, gradient)) in found.items()
        }


def _counts(weight: float | Tensor) -> bool:
    """Return whether a term is computed; weights of several members are not asked for, which would wait for a GPU."""
    return isinstance(weight, Tensor) or weight != 0


def _within_few(points: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return points ``[M, B, D]`` in a space of at most B dimensions, and the turn ``[M, D, B]`` there, if any.

    Distances and angles stay. On a GPU to find the turn takes longer than to do without.
    """
    if points.shape[2] <= points.shape[1] or points.is_cuda:
        return points, None
    turn, turned = torch.linalg.qr(points.mT)
    return turned.mT, turn


def _gaps(points: Tensor) -> Tensor:
    """Return the distance of each pair of a batch, ``[M, B, D]`` to ``[M, B, B]``."""
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")


def _compare_distances(points: Tensor, gaps: Tensor, source_gaps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean Huber loss of distances by their mean, ``[M]``, and its gradient by the points."""
    own, mean, count = _scaled(gaps)
    excess = own - _scaled(source_gaps)[0]
    slopes = excess.clamp(-1.0, 1.0)
    pairs = gaps.shape[1] ** 2
    loss = (slopes * (excess - slopes / 2)).sum(dim=(1, 2)) / pairs
    # By each distance, which is in the mean too, and from there by the points.
    slopes -= (slopes * own).sum(dim=(1, 2), keepdim=True) / count
    pulls = slopes * _inverse(gaps) * (2 / (pairs * mean))
    return loss, pulls.sum(dim=2, keepdim=True) * points - pulls @ points


def _scaled(gaps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return distances by their mean over all that are not 0, this mean, and the number of these."""
    count = (gaps > 0).sum(dim=(1, 2), keepdim=True).clamp_min(1)
    mean = (gaps.sum(dim=(1, 2), keepdim=True) / count).clamp_min(TINY)
    return gaps / mean, mean, count


def _compare_angles(
    points: Tensor, gaps: Tensor, source_gaps: Tensor, whose: list[int], vertices: int
) -> tuple[Tensor, Tensor]:
    """Return the mean Huber loss of the cosines of angles, ``[M]``, and its gradient by the points.

    There are B² of them at each vertex j: products of the directions ``u_ij = (e_i - e_j) / d_ij``, which are 0 where
    the distance is. They are computed for some vertices at a time, and the gradient with them, so that none is kept.

    Args:
        points: the students', ``[M, B, D]``.
        gaps: their distances.
        source_gaps: those of the sources, ``[S, B, B]``.
        whose: which of them each member has.
        vertices: at how many images, the first of the batch.
    """
    members, batch, _ = points.shape
    loss, over = points.new_zeros(members), _inverse(gaps)
    # The images as the last axis: it is the longest.
    images = points.mT.contiguous()
    gradient = torch.zeros_like(images)
    at_once = max(1, VALUES_AT_ONCE[gaps.device.type] // batch**2)
    # Used again for each member, which is quicker than other memory for each.
    room = points.new_empty(2, min(at_once, vertices), batch, batch)
    for start in range(0, vertices, at_once):
        rows = slice(start, min(start + at_once, vertices))
        excess, slopes = room[:, : rows.stop - start]
        last, cosines = -1, gaps
        for own, ends, short, number, total, slope in zip(points, images, over, whose, loss, gradient, strict=True):
            if number != last:
                last, cosines = number, _cosines(source_gaps[number], rows)
            units = (ends - own[rows].unsqueeze(2)) * short[rows].unsqueeze(1)
            torch.baddbmm(cosines, units.mT, units, beta=-1, out=excess)
            torch.clamp(excess, -1.0, 1.0, out=slopes)
            flat = slopes.view(-1)
            total += torch.dot(flat, excess.view(-1)) - torch.dot(flat, flat) / 2
            pulls = torch.bmm(units, slopes)
            pulls.addcmul_((pulls * units).sum(dim=1, keepdim=True), units, value=-1).mul_(short[rows].unsqueeze(1))
            slope += pulls.sum(dim=0)
            slope[:, rows] -= pulls.sum(dim=2).T
    count = vertices * batch**2
    return loss / count, gradient.mT * (2 / count)


def _cosines(gaps: Tensor, rows: slice) -> Tensor:
    """Return ``cos(i, j, k) = (d_ij² + d_jk² - d_ik²) / (2 d_ij d_jk)`` at some vertices j, ``[V, B, B]``."""
    squares, over = gaps.square(), _inverse(gaps[rows])
    sums = squares[rows].unsqueeze(2) + squares[rows].unsqueeze(1) - squares
    return sums.mul_(over.unsqueeze(2)).mul_(over.unsqueeze(1)).div_(2)


def _inverse(gaps: Tensor) -> Tensor:
    return torch.where(gaps > 0, 1 / gaps, 0.0)
