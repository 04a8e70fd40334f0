"""The method ``pkt``: which images of a batch are near to which, as probabilities."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from kdops.distillation.relations import BatchRelation, gradient_of_products, unit_rows

TINY = 1e-7


@dataclass(frozen=True)
class ProbabilisticTransfer(BatchRelation):
    r"""``CE(labels) + weight · KL(P_source || P_student)``, the mean over the rows of the batch.

    With :math:`c_{ij}` the cosine of the embeddings of two images (equations 5, 9 and 10):

    .. math::
        k_{ij} = (c_{ij} + 1) / 2, \qquad P_{ij} = k_{ij} / \sum_{l \ne i} k_{il}

    The paper leaves i = j out, and so does this; the authors' code has it in the sums. The paper adds up over all rows;
    the code takes the mean over all B² pairs, so that its weight of 30,000 is 30,000 / B of this one. The temperature
    has no part in it.

    Reference: Passalis and Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018.

    Attributes:
        weight: of the divergence.
    """

    weight: float | Tensor = 500.0

    term = "neighbors"

    def relation(self, source: Tensor) -> Tensor:
        """Return P of the sources."""
        near, sums = _near(unit_rows(source)[0])
        return near.div_(sums)

    def compare(self, points: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss ``[M]`` and its gradient by the points ``[M, B, D]``."""
        units, lengths = unit_rows(points)
        near, sums = _near(units)
        batch = points.shape[1]
        loss = (theirs * (theirs.clamp_min(TINY).log_() - (near / sums).clamp_min_(TINY).log_())).sum(dim=(1, 2))
        slopes = (1 / sums - theirs / near.clamp_min(TINY)).mul_(0.5 / batch)
        slopes.diagonal(dim1=1, dim2=2).zero_()
        return loss / batch, gradient_of_products(slopes, units, lengths)


def _near(units: Tensor) -> tuple[Tensor, Tensor]:
    """Return k ``[M, B, B]``, 0 on the diagonal, and the sums of its rows ``[M, B, 1]``."""
    near = (units @ units.mT).add_(1).mul_(0.5).clamp_min_(0.0)
    near.diagonal(dim1=1, dim2=2).zero_()
    return near, near.sum(dim=-1, keepdim=True).clamp_min_(TINY)
