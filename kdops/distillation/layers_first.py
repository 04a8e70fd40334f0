"""Methods in two phases: a student learns layers of its source first, then the source's softened outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from kdops.distillation.method import Method, Phase, Step
from kdops.distillation.softening import soft_cross_entropy, soft_weight


@dataclass(frozen=True)
class LayersFirst(Method, ABC):
    """Two phases within the recipe's epochs, each with an optimizer and a one-cycle schedule of its own.

    The first has a loss of layers alone, without labels; the second is
    ``alpha · T² · CE(source softened, student softened) + (1 - alpha) · CE(labels)``, as ``logits`` has it.

    Attributes:
        first: the name of the first phase, and of its term.
        share: share of the epochs that the first phase has.
        alpha: weight of the soft term in the second.
        t_squared: multiply the soft term by T².
    """

    first: ClassVar[str]

    share: float = 0.3
    alpha: float | Tensor = 1.0
    t_squared: bool | Tensor = True

    def label_weight(self) -> float | Tensor:
        """Return ``1 - alpha``."""
        return 1 - self.alpha

    def phases(self) -> tuple[Phase, ...]:
        """Return the one of layers, and ``task``."""
        return Phase(self.first, self.share, labels=False), Phase("task", 1 - self.share)

    @abstractmethod
    def layer_loss(self, step: Step, modules: nn.Module) -> Tensor:
        """Return the loss of the first phase for one student."""

    def terms(self, step: Step, modules: nn.Module) -> Mapping[str, Tensor]:
        """Return the term of the first phase, or ``soft`` in the second."""
        if step.phase == self.first:
            return {self.first: self.layer_loss(step, modules).unsqueeze(0)}
        soft = soft_cross_entropy(step.source.logits, step.student.logits, step.temperature).mean(dim=1)
        return {"soft": soft_weight(self.alpha, self.t_squared, step.temperature) * soft}
