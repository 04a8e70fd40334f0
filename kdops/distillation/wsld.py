"""The method ``wsld``: softened outputs, each image weighted by how much better the source knows its label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdops.distillation.method import Method, Step
from kdops.distillation.softening import log_softmax, soft_weight, with_gradient

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
        with torch.no_grad():
            both = torch.stack([step.student.logits, step.source.logits])
            labels = step.labels.expand(2, *step.labels.shape)
            own, source = log_softmax(both).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
            weight = -torch.expm1(own / (TINY - source))
            logs = log_softmax(both.div_(step.temperature))
            mine, theirs = logs.exp()
            soft = -(weight * torch.linalg.vecdot(theirs, logs[0])).mean(dim=1)
            scale = weight.unsqueeze(-1) / (step.temperature * step.labels.shape[1])
            gradient = (mine - theirs).mul_(scale)
        known = with_gradient(step.student.logits, soft, gradient)
        return {"soft": soft_weight(self.alpha, self.t_squared, step.temperature) * known}
