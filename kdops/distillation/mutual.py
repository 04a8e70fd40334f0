"""The company method ``mutual``: nets learn from the labels and from each other's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from kdops.distillation.company import CompanyMethod, divergence_from_peers
from kdops.distillation.method import Step


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
        return {"peers": self.weight * divergence_from_peers(step)}
