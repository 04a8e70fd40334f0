"""The method ``logits``: a student learns the softened outputs of its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from kdops.distillation.method import Method, Step
from kdops.distillation.softening import soft_cross_entropy, soft_weight


@dataclass(frozen=True)
class LogitDistillation(Method):
    """``alpha · T² · CE(source softened, student softened) + (1 - alpha) · CE(labels)``, mean over the batch.

    Reference: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, equation (1) and
    section 2.

    Attributes:
        alpha: weight of the soft term, in [0, 1].
        t_squared: multiply the soft term by T².
    """

    alpha: float | Tensor = 1.0
    t_squared: bool | Tensor = True

    def label_weight(self) -> float | Tensor:
        """Return ``1 - alpha``."""
        return 1 - self.alpha

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the term ``soft``."""
        soft = soft_cross_entropy(step.source.logits, step.student.logits, step.temperature).mean(dim=1)
        return {"soft": soft_weight(self.alpha, self.t_squared, step.temperature) * soft}
