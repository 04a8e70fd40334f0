"""The method ``dkd``: the source's probability of the label, and those of the other classes, each with a weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdops.distillation.closed_form import images_last, with_gradient_by
from kdops.distillation.method import Method, Needs, Step

MASK = -1e30
"""The logit of a class that takes no part. The authors' code adds -1000, which logits of that size undo."""

TINY = 1e-12


@dataclass(frozen=True)
class DecoupledDistillation(Method):
    r"""``CE(labels) + w · T² · (alpha · TCKD + beta · NCKD)``, mean over the batch.

    With :math:`b = (p_t, 1 - p_t)` the probability of the label against all others, and :math:`\hat p` the
    probabilities of the others among themselves, both softened at T:

    .. math::
        \mathrm{TCKD} = \operatorname{KL}(b^T \| b^S), \qquad
        \mathrm{NCKD} = \operatorname{KL}(\hat p^T \| \hat p^S)

    :math:`\operatorname{KL}(p^T \| p^S) = \mathrm{TCKD} + (1 - p^T_t) \mathrm{NCKD}` (equation 6), so that plain
    distillation suppresses the second term where the source is sure; here its weight is free (equation 7).

    The equations have neither T² nor a warm-up. The authors' code has both, and so has this: the weight w rises
    linearly from 0 to 1, there over 20 of 240 epochs. Their code takes the logarithm of a softmax that may be 0; this
    one works with logits throughout. Of two classes NCKD is 0.

    Reference: Zhao, Cui, Song, Qiu and Liang, "Decoupled Knowledge Distillation", CVPR 2022.

    Attributes:
        alpha: weight of TCKD.
        beta: weight of NCKD; the authors' is 1 to 8, by pair of networks.
        warmup: share of the training over which w rises.
    """

    alpha: float | Tensor = 1.0
    beta: float | Tensor = 8.0
    warmup: float | Tensor = 0.08

    @property
    def needs(self) -> Needs:
        """Logits, and how far the training is."""
        return Needs(progress=True)

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the terms ``tckd`` and ``nckd``."""
        logits, batch = step.student.logits, step.labels.shape[1]
        label = step.labels.unsqueeze(-2)
        with torch.no_grad():
            both = images_last(logits, step.source.logits).div_(step.temperature)
            of_both = label.expand(2, -1, -1, -1)
            odds = both.gather(-2, of_both)
            largest = both.scatter_(-2, of_both, MASK).amax(dim=-2, keepdim=True)
            others = both.sub_(largest).exp()
            mass = others.sum(dim=-2, keepdim=True)
            own, source = others.div_(mass)
            logs = mass.log_()
            gaps = both[1].sub_(both[0]).sub_(logs[1] - logs[0])
            # The log odds of the label, and its probability.
            odds -= logs.add_(largest)
            sure = odds.sigmoid()
            crossed = F.binary_cross_entropy_with_logits(odds, sure[1].expand_as(odds), reduction="none")
            tckd = (crossed[0] - crossed[1]).mean(dim=(-2, -1))
            nckd = (source * gaps).sum(dim=(-2, -1)) / batch
            surer = sure[0] - sure[1]
            rising = ((step.progress + TINY) / (self.warmup + TINY)).clamp(max=1.0)
            weight = (rising * step.temperature.flatten().square()).to(tckd.dtype)

        def gradient(by_label: Tensor, by_others: Tensor) -> Tensor:
            by_label, by_others = (by_label * surer).div_(batch), by_others / batch
            slopes = (own - source).mul_(by_others).addcmul_(own, by_label, value=-1)
            return slopes.scatter_add_(-2, label, by_label).div_(step.temperature).mT

        terms = {"tckd": (self.alpha * weight, tckd), "nckd": (self.beta * weight, nckd)}
        return with_gradient_by(logits, terms, gradient)
