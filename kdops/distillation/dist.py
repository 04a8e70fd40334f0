"""The method ``dist``: the correlation of the softened outputs, of each image and of each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdops.distillation.closed_form import images_last, through_softmax, with_gradient_by
from kdops.distillation.method import Method, Step
from kdops.distillation.softening import soft_weight

TINY = 1e-8


@dataclass(frozen=True)
class CorrelationDistillation(Method):
    r"""``CE(labels) + beta · L_inter + gamma · L_intra``.

    With the softened outputs of a batch as a matrix ``[B, classes]`` of source and student, and Pearson's correlation
    :math:`\rho` (equations 7 to 9):

    .. math::
        L_{inter} = 1 - \operatorname{mean}_i \rho(Y^S_{i,:}, Y^T_{i,:}), \qquad
        L_{intra} = 1 - \operatorname{mean}_j \rho(Y^S_{:,j}, Y^T_{:,j})

    The paper has no factor T²; the authors' code has one. A correlation does not shrink as T grows, so the default is
    the paper's. A row or column that is constant has correlation 0.

    Reference: Huang, You, Wang, Qian and Xu, "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022.

    Attributes:
        beta: weight of the correlation over the classes of each image.
        gamma: weight of the correlation over the batch of each class.
        t_squared: multiply both by T², as the authors' code does.
    """

    beta: float | Tensor = 1.0
    gamma: float | Tensor = 1.0
    t_squared: bool | Tensor = False

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the terms ``inter`` and ``intra``."""
        logits = step.student.logits
        with torch.no_grad():
            softened = torch.softmax(images_last(logits, step.source.logits).div_(step.temperature), dim=-2)
            # The mean over the classes is known.
            inter = _correlated(softened - 1 / softened.shape[-2], -2)
            intra = _correlated(softened - softened.mean(dim=-1, keepdim=True), -1)

        def gradient(*factors: Tensor) -> Tensor:
            slopes = torch.zeros_like(softened[0])
            for factor, (_, parts, by_own, by_source) in zip(factors, (inter, intra), strict=True):
                slopes.addcmul_(parts[0], by_own * factor).addcmul_(parts[1], by_source * factor)
            return through_softmax(slopes, softened[0]).div_(step.temperature).mT

        weights = (soft_weight(one, self.t_squared, step.temperature) for one in (self.beta, self.gamma))
        terms = {"inter": (next(weights), inter[0]), "intra": (next(weights), intra[0])}
        return with_gradient_by(logits, terms, gradient)


def _correlated(parts: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return 1 less Pearson's correlation along an axis, the mean over the other, and what its gradient is made of.

    Args:
        parts: outputs of student and source less their mean, ``[2, M, classes, B]``.
        dim: the axis, from the end.

    Returns:
        ``[M]``; the parts; and the factors of both in the gradient by the student's outputs.
    """
    own, source = (parts * parts).sum(dim, keepdim=True).sqrt_().clamp_min_(TINY)
    found = (parts[0] * parts[1]).sum(dim, keepdim=True).div_(own * source)
    count = found[0].numel()
    return 1 - found.mean(dim=(-2, -1)), parts, found / (own * own * count), -1 / (own * source * count)
