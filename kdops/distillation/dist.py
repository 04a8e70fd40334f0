"""The method ``dist``: the correlation of the softened outputs, of each image and of each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdops.distillation.method import Method, Step
from kdops.distillation.softening import log_softmax, soft_weight, with_gradient

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
        with torch.no_grad():
            logits = torch.stack([step.student.logits, step.source.logits]).div_(step.temperature)
            softened = log_softmax(logits).exp_()
            inter, intra = (_distance(softened, step.temperature, dim) for dim in (-1, -2))
        logits = step.student.logits
        return {
            "inter": soft_weight(self.beta, self.t_squared, step.temperature) * with_gradient(logits, *inter),
            "intra": soft_weight(self.gamma, self.t_squared, step.temperature) * with_gradient(logits, *intra),
        }


def _distance(softened: Tensor, temperature: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return 1 less Pearson's correlation along an axis, the mean over the other, and its gradient.

    Args:
        softened: outputs of student and source, ``[2, M, B, classes]``.
        temperature: ``[M, 1, 1]``.
        dim: the axis, from the end.

    Returns:
        ``[M]``, and its gradient by the student's logits ``[M, B, classes]``.
    """
    both = softened - softened.mean(dim, keepdim=True)
    norms = torch.linalg.vector_norm(both, dim=dim, keepdim=True).clamp_min_(TINY)
    own, source = both.div_(norms)
    found = (own * source).sum(dim, keepdim=True)
    slope = (own.mul_(found).sub_(source)).div_(norms[0] * found[0].numel())
    gradient = (slope - (slope * softened[0]).sum(dim=-1, keepdim=True)).mul_(softened[0]).div_(temperature)
    return 1 - found.mean(dim=(1, 2)), gradient
