"""The method ``nkd``: the source's probability of the label, and the distribution of the other classes among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdops.distillation.closed_form import images_last, with_gradient_by
from kdops.distillation.method import Method, Step
from kdops.distillation.softening import as_weight

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
        logits, batch = step.student.logits, step.labels.shape[1]
        label = step.labels.unsqueeze(-2)
        with torch.no_grad():
            both = images_last(logits, step.source.logits)
            of_both = label.expand(2, -1, -1, -1)
            plain = torch.log_softmax(both, dim=-2)
            own, source = plain.gather(-2, of_both)
            sure = source.exp_()
            target = (sure * own).sum(dim=(-2, -1)) / -batch
            both.div_(step.temperature).scatter_(-2, of_both, MASK)
            logs = torch.log_softmax(both, dim=-2)
            mine, theirs = logs.exp()
            others = (theirs * logs[0]).sum(dim=(-2, -1)) / -batch
            drawn, apart = plain[0].exp_().mul_(sure).scatter_add_(-2, label, -sure), mine.sub_(theirs)

        def gradient(by_target: Tensor, by_others: Tensor) -> Tensor:
            scale = by_others / (step.temperature * batch)
            return (by_target / batch * drawn).addcmul_(scale, apart).mT

        scale = as_weight(self.gamma, others) * step.temperature.flatten().square()
        return with_gradient_by(logits, {"target": (1.0, target), "others": (scale, others)}, gradient)
