"""The method ``smoothing``: labels that leave a share to the other classes. A control; the source has no part in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdops.distillation.method import Method, Step
from kdops.distillation.softening import as_weight


@dataclass(frozen=True)
class LabelSmoothing(Method):
    """``(1 - amount) · CE(labels) + amount · CE(all classes alike)``, mean over the batch.

    What a method gains over this is more than what softer labels bring by themselves. The temperature has no part in
    it.

    Reference: Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception Architecture for Computer
    Vision", CVPR 2016, section 7.

    Attributes:
        amount: the share that all classes have alike; the paper's is 0.1.
    """

    amount: float | Tensor = 0.1

    vanishes = False

    def label_weight(self) -> float | Tensor:
        """Return ``1 - amount``."""
        return 1 - self.amount

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the term ``uniform``."""
        uniform = -torch.log_softmax(step.student.logits, dim=-1).mean(dim=(1, 2))
        return {"uniform": as_weight(self.amount, uniform) * uniform}
