"""The method ``wsld``: softened outputs, each image weighted by how much better the source knows its label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdops.distillation.closed_form import images_last, with_gradient_by
from kdops.distillation.method import Method, Step
from kdops.distillation.softening import soft_weight

TINY = 1e-7


@dataclass(frozen=True)
class WeightedDistillation(Method):
    r"""``CE(labels) + alpha · T² · w · CE(source softened, student softened)``, mean over the batch.

    Each image has a weight of its own, without gradient (equation 8), from the cross entropies with its label at T = 1:

    .. math:: w = 1 - \exp(- \mathrm{CE}^S / \mathrm{CE}^T)

    It is small where the student knows the label better than the source. The authors' code adds 1e-7 to the divisor,
    and so does this: where the source is sure, w is 1 until the student is as sure.

    Reference: Zhou, Song, Chen, Zhou, Wang, Yuan and Zhang, "Rethinking Soft Labels for Knowledge Distillation: A
    Bias-Variance Tradeoff Perspective", ICLR 2021.

    Attributes:
        alpha: weight of the soft term; the paper's is 2.25 to 2.5, at T = 2 to 4.
        t_squared: multiply the soft term by T².
    """

    alpha: float | Tensor = 2.5
    t_squared: bool | Tensor = True

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the term ``soft``."""
        logits, batch = step.student.logits, step.labels.shape[1]
        with torch.no_grad():
            both = images_last(logits, step.source.logits)
            label = step.labels.unsqueeze(-2).expand(2, -1, -1, -1)
            known = torch.log_softmax(both, dim=-2).gather(-2, label)
            weight = -torch.expm1(known[0] / (TINY - known[1]))
            logs = torch.log_softmax(both.div_(step.temperature), dim=-2)
            own, source = logs.exp()
            soft = (source * logs[0] * weight).sum(dim=(-2, -1)) / -batch
            apart = own.sub_(source).mul_(weight)

        def gradient(factor: Tensor) -> Tensor:
            return (factor / (step.temperature * batch) * apart).mT

        scale = soft_weight(self.alpha, self.t_squared, step.temperature)
        return with_gradient_by(logits, {"soft": (scale, soft)}, gradient)
