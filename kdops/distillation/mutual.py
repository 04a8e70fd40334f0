"""The company method ``mutual``: nets learn from the labels and from each other's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdops.distillation.company import CompanyMethod
from kdops.distillation.method import Step
from kdops.distillation.softening import soft_weight

__all__ = ["MutualLearning", "mean_divergence"]


@dataclass(frozen=True)
class MutualLearning(CompanyMethod):
    r"""``CE(labels)`` and the mean divergence from the other nets, each softened at T.

    .. math:: L_k = CE(y, z_k) + \frac{w T^2}{K - 1} \sum_{j \ne k} KL(\operatorname{softmax}(z_j / T) \,\|\,
        \operatorname{softmax}(z_k / T))

    for K nets, means over the batch; no gradient reaches net j through :math:`L_k`.

    The paper has w = T = 1, and each net learns from outputs that are computed again after the steps of the nets before
    it (``order=sequential``); the authors' code computes all outputs once (``order=simultaneous``). T² is that of
    Hinton et al., 2015, as :class:`~kdops.distillation.logits.LogitDistillation` has it.

    Reference: Zhang, Xiang, Hospedales and Lu, "Deep Mutual Learning", CVPR 2018, equations (3) to (8).

    Attributes:
        weight: w, of the term ``peers``.
        temperature: T.
    """

    weight: float = 1.0
    temperature: float = 1.0

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the term ``peers``."""
        divergence = mean_divergence(step.source.logits, step.student.logits, step.temperature)
        return {"peers": soft_weight(self.weight, True, step.temperature) * divergence}


def mean_divergence(given: Tensor, logits: Tensor, temperature: Tensor) -> Tensor:
    """Return how far each net is from the others: KL(other || own), ``[K]`` in nats, mean over them and the batch.

    Args:
        given: the logits that are learned from, without gradient, ``[K, B, classes]``.
        logits: the logits that learn, likewise.
        temperature: broadcastable to them.
    """
    own, log_target = (torch.log_softmax(one / temperature, dim=-1) for one in (logits, given))
    target = log_target.exp()
    # From net j, the first axis, to net k: [K, K]. Class by class, since a whole of logarithms of nearly 0 cancels.
    each = (target.unsqueeze(1) * (log_target.unsqueeze(1) - own.unsqueeze(0))).sum(dim=-1).mean(dim=-1)
    return each.masked_fill(torch.eye(len(each), dtype=torch.bool, device=each.device), 0.0).sum(dim=0) / (
        len(each) - 1
    )
