"""The method ``dkd``: the source's probability of the label, and those of the other classes, each with a weight."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
        target = step.labels.unsqueeze(-1)
        sure, others = _parted(step.student.logits / step.temperature, target)
        source_sure, source_others = _parted(step.source.logits / step.temperature, target)
        share = torch.sigmoid(source_sure)
        tckd = _binary_entropy(sure, share) - _binary_entropy(source_sure, share)
        nckd = F.kl_div(others, source_others, reduction="none", log_target=True).sum(dim=-1)
        rising = ((step.progress + TINY) / (self.warmup + TINY)).clamp(max=1.0)
        weight = (rising * step.temperature.flatten().square()).to(tckd.dtype)
        return {"tckd": self.alpha * weight * tckd.mean(dim=1), "nckd": self.beta * weight * nckd.mean(dim=1)}


def _parted(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log odds of the label ``[M, B]``, and the log probabilities among the others ``[M, B, classes]``."""
    others = logits.scatter(-1, target, MASK)
    mass = torch.logsumexp(others, dim=-1, keepdim=True)
    return (logits.gather(-1, target) - mass).squeeze(-1), others - mass


def _binary_entropy(odds: Tensor, share: Tensor) -> Tensor:
    """Return the cross entropy of a share with the probability of these log odds."""
    return F.binary_cross_entropy_with_logits(odds, share, reduction="none")
