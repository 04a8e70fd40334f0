"""The method ``nkd``: the source's probability of the label, and the distribution of the other classes among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdops.distillation.method import Method, Step
from kdops.distillation.softening import as_weight, log_softmax, with_gradient

MASK = -1e30
"""The logit of a class that takes no part."""


@dataclass(frozen=True)
class NormalizedDistillation(Method):
    r"""``CE(labels) + target + gamma · T² · others``, mean over the batch.

    With p the outputs at T = 1 and :math:`\hat p` those softened at T, of all classes but the label and normalized
    among themselves (equation 7):

    .. math::
        \mathit{target} = - p^T_t \log p^S_t, \qquad
        \mathit{others} = - \sum_{i \ne t} \hat p^T_i \log \hat p^S_i

    The authors' code divides by the sum of the others' probabilities, which may round to 0; this one works with
    logits. Of two classes ``others`` is 0. Where student and source are equal, ``target`` still draws the label up.

    Reference: Yang, Zeng, Li, Zhang, Yuan and Li, "From Knowledge Distillation to Self-Knowledge Distillation: A
    Unified Approach with Normalized Loss and Customized Soft Labels", ICCV 2023.

    Attributes:
        gamma: weight of the other classes; the authors' is 1.5 at T = 1.
    """

    gamma: float | Tensor = 1.5

    vanishes = False

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the terms ``target`` and ``others``."""
        label = step.labels.unsqueeze(-1)
        batch = step.labels.shape[1]
        with torch.no_grad():
            both = torch.stack([step.student.logits, step.source.logits])
            plain = log_softmax(both)
            own, source = plain.gather(-1, label.expand(2, *label.shape))
            sure = source.exp_() / batch
            target = -(sure * own).sum(dim=(1, 2))
            drawn = plain[0].exp_().mul_(sure).scatter_add_(-1, label, -sure)
            both /= step.temperature
            logs = log_softmax(both.scatter_(-1, label.expand(2, *label.shape), MASK))
            mine, theirs = logs.exp()
            others = -torch.linalg.vecdot(theirs, logs[0]).mean(dim=1)
            gradient = (mine - theirs).div_(step.temperature * batch)
        scale = as_weight(self.gamma, gradient) * step.temperature.flatten().square()
        return {
            "target": with_gradient(step.student.logits, target, drawn),
            "others": scale * with_gradient(step.student.logits, others, gradient),
        }
